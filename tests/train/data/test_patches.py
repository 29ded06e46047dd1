"""Patches against plain slices, torch.rot90 and scipy; images and masks move together."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_infer.train.choices import Augment, TrainOptions
from brats_infer.train.data import patches
from brats_infer.train.data.dataset import Split, TrainingCase
from brats_infer.train.data.patches import (
    at_low_resolution,
    bend_patch,
    change_contrast,
    cut_patch,
    draw_batch,
    draw_centre,
    draw_patch,
    drop_contrasts,
    kept_on,
    random_rotation,
)
from brats_infer.train.run_config import TrainConfig
from tests.small_networks import training_case

Array = NDArray[np.float64]
Shape = tuple[int, int, int]
CPU, META = torch.device("cpu"), torch.device("meta")
CENTRE = np.array([10.0, 9.0, 11.0])


def batch_of(split: Split, rngs: Sequence[np.random.Generator], **changed: Any) -> tuple[Tensor, Tensor]:
    options = TrainOptions(**{"patch": 8, "phantom_share": 0.25} | changed)
    return draw_batch(split, TrainConfig(options), rngs, CPU)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def case(rng: np.random.Generator) -> TrainingCase:
    return training_case("BraTS-GLI-00000-000", rng)


@pytest.mark.parametrize("centre", [CENTRE, np.array([0.0, 17.0, 3.0])], ids=["inside", "at the edge"])
@pytest.mark.parametrize("patch", [(8, 8, 8), (6, 12, 10), (32, 32, 32)])
def test_plain_patch_is_the_slice_around_its_centre(case: TrainingCase, patch: Shape, centre: Array) -> None:
    image, target = cut_patch(case, centre, patch, CPU)
    wide = 40
    for found, whole in ((image, case.image), (target, case.regions)):
        padded = np.pad(whole.numpy().astype(np.float32), [(0, 0)] + [(wide, wide)] * 3)
        box = [slice(int(c) + wide - n // 2, int(c) + wide - n // 2 + n) for c, n in zip(centre, patch, strict=True)]
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), padded[:, *box])


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("patch", [(8, 8, 8), (6, 12, 10), (24, 8, 30)])
def test_bent_patch_without_rotation_is_the_plain_one(case: TrainingCase, patch: Shape, flips: Shape) -> None:
    axes = [axis + 1 for axis in range(3) if flips[axis] < 0]
    image, target = (tensor.flip(axes) for tensor in cut_patch(case, CENTRE, patch, CPU))
    bent_image, bent_target = bend_patch(case, CENTRE, np.diag(flips).astype(np.float64), patch, CPU)
    torch.testing.assert_close(bent_image, image, rtol=0, atol=1e-4)
    assert torch.equal(bent_image[4], image[4])
    assert torch.equal(bent_target, target)


QUARTER_TURNS = {
    (2, 3): np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    (1, 3): np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]]),
    (1, 2): np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]]),
}


@pytest.mark.parametrize("plane", QUARTER_TURNS)
def test_quarter_turn_is_rot90(case: TrainingCase, plane: tuple[int, int]) -> None:
    image, target = cut_patch(case, CENTRE, (12, 12, 12), CPU)
    turned_image, turned_target = bend_patch(case, CENTRE, QUARTER_TURNS[plane], (12, 12, 12), CPU)
    torch.testing.assert_close(turned_image, torch.rot90(image, 1, plane), rtol=0, atol=1e-4)
    assert torch.equal(turned_target, torch.rot90(target, 1, plane))
    assert not torch.equal(turned_target, target)


@pytest.mark.parametrize("patch", [(12, 12, 12), (8, 16, 10)])
@pytest.mark.parametrize("zoom", [1.0, 0.8, 1.3])
def test_any_rotation_and_zoom_is_that_of_scipy(case: TrainingCase, patch: Shape, zoom: float) -> None:
    matrix = np.diag([1.0, -1.0, 1.0]) @ random_rotation(np.random.default_rng(5)) * zoom
    image, target = bend_patch(case, CENTRE, matrix, patch, CPU)
    offset = CENTRE - 0.5 - matrix @ ((np.array(patch) - 1) / 2)
    brain = image[4] > 0
    for channel in range(4):
        expected = sample(case.image[channel], matrix, offset, patch, order=1)
        np.testing.assert_allclose(image[channel][brain].numpy(), expected[brain.numpy()], rtol=0, atol=1e-3)
    for found, mask in zip((image[4], *target), (case.image[4], *case.regions), strict=True):
        agreement = found.numpy() == sample(mask, matrix, offset, patch, order=0)
        assert agreement.mean() > 0.995  # ties of nearest neighbours fall either way


def test_rotations_turn_and_do_nothing_else(rng: np.random.Generator) -> None:
    for _ in range(20):
        matrix = random_rotation(rng)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)


def sample(volume: Tensor, matrix: Array, offset: Array, patch: Shape, order: int) -> NDArray[np.float32]:
    source = volume.numpy().astype(np.float32)
    out = ndimage.affine_transform(source, matrix, offset, patch, order=order, mode="grid-constant")
    return np.asarray(out, np.float32)


def test_images_and_masks_move_together(rng: np.random.Generator) -> None:
    """The first modality is the tumor itself: wherever the patch lies and however it is bent, they must agree."""
    case = training_case("BraTS-GLI-00000-000", rng)
    case.image[0] = case.regions[0] * 1.0
    for _ in range(40):
        image, target = bend_patch(case, CENTRE, random_rotation(rng) * rng.uniform(0.75, 1.35), (12, 16, 12), CPU)
        sure = (image[0] < 0.4) | (image[0] > 0.6)  # a linear value of 0.5 is the border itself
        assert ((image[0] > 0.5) == (target[0] > 0))[sure].float().mean() > 0.97
        assert bool((target[0] >= target[1]).all() & (target[1] >= target[2]).all())
        assert set(torch.unique(target).tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("seed", range(4))
def test_background_stays_zero(case: TrainingCase, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(15):
        image, target = draw_patch(case, (16, 16, 16), rng, CPU)
        outside = image[4] == 0
        assert outside.any()
        assert (image[:4, outside] == 0).all()
        assert (target[:, outside] == 0).all()
        assert set(torch.unique(image[4]).tolist()) <= {0.0, 1.0}
        assert image.isfinite().all()


def test_same_seed_same_patches_whatever_torch_drew(case: TrainingCase) -> None:
    def batches(seed: int) -> list[Tensor]:
        torch.rand(seed + 1)
        rng = np.random.default_rng(7)
        return [tensor for _ in range(5) for tensor in batch_of(Split((case,), ()), [rng] * 2)]

    assert all(torch.equal(a, b) for a, b in zip(batches(0), batches(1), strict=True))


def test_next_patches_differ(case: TrainingCase, rng: np.random.Generator) -> None:
    first, second = (batch_of(Split((case,), ()), [rng])[0] for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("foreground", "channels"), [(True, 5), (False, 4)])
def test_batch_has_the_networks_channels(
    case: TrainingCase, rng: np.random.Generator, foreground: bool, channels: int
) -> None:
    images, targets = batch_of(Split((case, case), ()), [rng] * 3, patch=10, foreground=foreground)
    assert images.shape == (3, channels, 10, 10, 10)
    assert targets.shape == (3, 3, 10, 10, 10)
    assert images.dtype == targets.dtype == torch.float32


def test_phantoms_are_drawn_at_their_share(case: TrainingCase, rng: np.random.Generator) -> None:
    blank = TrainingCase.of_arrays("phantom", np.zeros_like(case.image.numpy()), np.ones_like(case.regions.numpy()))
    split = Split((case,), (), phantoms=(replace(blank, centres=case.centres),))
    images, _ = batch_of(split, [rng] * 200, patch=4)
    assert 25 < sum(not bool(image.any()) for image in images) < 80
    assert not batch_of(split, [rng] * 5, phantom_share=1)[0].any()
    assert batch_of(split, [rng] * 5, phantom_share=0)[0].any(dim=(1, 2, 3, 4)).all()
    assert not batch_of(replace(split, training=()), [rng] * 5)[0].any()


FLIPS = [axes for n in range(4) for axes in combinations((1, 2, 3), n)]


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        (Augment.FLIPS, {(True, True)}),
        (Augment.SHAPE, {(True, True), (False, False)}),
        (Augment.CONTRAST, {(False, True)}),
        (Augment.ALL, {(False, True), (False, False)}),
    ],
)
def test_images_and_masks_are_changed_as_is_asked_for(
    case: TrainingCase, augment: Augment, expected: set[tuple[bool, bool]]
) -> None:
    found = set()  # whether the images are those of the plain patch but for flips, and whether the masks are
    for seed in range(8):
        plain, changed = (
            draw_patch(case, (24, 24, 24), np.random.default_rng(seed), CPU, a) for a in (Augment.NONE, augment)
        )
        assert torch.equal(
            plain[0], cut_patch(case, draw_centre(case, np.random.default_rng(seed)), (24, 24, 24), CPU)[0]
        )
        image, mask = (any(torch.equal(x.flip(axes), y) for axes in FLIPS) for x, y in zip(plain, changed, strict=True))
        found.add((image, mask))
    assert found == expected


def test_drawing_leaves_the_case_as_it_was(case: TrainingCase, rng: np.random.Generator) -> None:
    image, regions = case.image.clone(), case.regions.clone()
    for _ in range(20):
        draw_patch(case, (16, 16, 16), rng, CPU)
    assert torch.equal(case.image, image)
    assert torch.equal(case.regions, regions)


def test_enough_patches_show_tumor_and_a_case_without_any_can_be_drawn(
    case: TrainingCase, rng: np.random.Generator
) -> None:
    regions = np.zeros(case.regions.shape, bool)
    regions[:, 10, 9, 11] = True
    small = TrainingCase.of_arrays(case.id, case.image.numpy(), regions)
    shown = sum(bool(draw_patch(small, (4, 4, 4), rng, CPU)[1].any()) for _ in range(200))
    assert 50 < shown < 120
    healthy = TrainingCase.of_arrays(case.id, case.image.numpy(), np.zeros_like(regions))
    assert not draw_patch(healthy, (8, 8, 8), rng, CPU)[1].any()


@pytest.mark.parametrize(
    "spread", [lambda x: x, lambda x: x * 8 - 3, lambda x: x * 30_000], ids=["rescaled", "z-score", "raw"]
)
def test_contrast_keeps_the_anatomy_at_any_scale(
    case: TrainingCase, rng: np.random.Generator, spread: Callable[[Tensor], Tensor]
) -> None:
    """Every normalisation must survive: bright tissue stays brighter than dark tissue, on the scale it came in."""
    image = spread(case.image[:4].float()) * case.image[4]
    brain, tumor = case.image[4] > 0, case.regions[0]
    contrast = image[3, tumor].mean() - image[3, brain & ~tumor].mean()
    for _ in range(40):
        changed = change_contrast(image, rng)
        assert changed.shape == image.shape
        ratio = (changed[3, tumor].mean() - changed[3, brain & ~tumor].mean()) / contrast
        assert 0.2 < ratio < 4


@pytest.mark.parametrize("factor", [1.25, 1.7, 2.25])
def test_low_resolution_leaves_everything_where_it_is(factor: float) -> None:
    at = torch.arange(96.0)
    blob = torch.exp(-((at - 84) ** 2) / 32).expand(8, 8, 96)
    found = at_low_resolution(blob, factor)[4, 4]
    assert float((found * at).sum() / found.sum()) == pytest.approx(84, abs=0.05)


@pytest.mark.parametrize("augment", list(Augment))
def test_background_is_0_however_a_patch_is_changed(
    case: TrainingCase, rng: np.random.Generator, augment: Augment
) -> None:
    for _ in range(20):
        image, _ = draw_patch(case, (16, 16, 16), rng, CPU, augment)
        assert not image[:4][:, image[4] == 0].any()


def test_contrast_of_an_empty_patch_is_finite(rng: np.random.Generator) -> None:
    for _ in range(20):
        assert change_contrast(torch.zeros((4, 8, 8, 8)), rng).isfinite().all()


def test_on_a_device_no_number_is_waited_for(
    case: TrainingCase, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`meta` holds no numbers: asking for one raises. (It has no generator either, which noise needs.)"""
    monkeypatch.setattr(patches, "NOISE_SHARE", 0)
    for _ in range(20):
        image, target = draw_patch(case, (8, 8, 8), rng, META)
        assert image.device == target.device == META


@pytest.mark.parametrize(("room", "where"), [(2.01, META), (1.99, CPU)])
def test_cases_are_kept_on_the_device_where_they_leave_half_of_it(
    case: TrainingCase, room: float, where: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = case.image.nbytes + case.regions.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (room * 2 * size, 4 * size))
    kept = kept_on(Split((case,), (case,), phantoms=(case,)), META)
    for moved in (*kept.training, *kept.phantoms):
        assert moved.image.device == moved.regions.device == where
        assert moved.centres is case.centres
    assert kept.validation == (case,)
    assert kept_on(Split((case,), ()), CPU).training == (case,)


T1N, T1C, T2W, T2F, BRAIN = range(5)


def dropped_of(image: Tensor) -> list[bool]:
    return [not bool(channel.any()) for channel in image]


def test_contrasts_are_dropped_at_their_share_and_never_t1c_and_flair_together(rng: np.random.Generator) -> None:
    image = torch.ones(5, 2, 2, 2)
    found = np.array([dropped_of(drop_contrasts(image, 0.3, rng)) for _ in range(4000)])
    assert bool((image == 1).all())
    assert not (found[:, T1C] & found[:, T2F]).any()
    assert not found[:, BRAIN].any()
    shares = found.mean(0)
    assert shares[[T1N, T2W]] == pytest.approx(0.3, abs=0.03)
    assert shares[[T1C, T2F]] == pytest.approx(0.3 - 0.3**2 / 2, abs=0.03)


def test_a_patch_differs_from_the_whole_one_in_its_dropped_contrasts_alone(case: TrainingCase) -> None:
    def drawn(share: float) -> tuple[Tensor, Tensor]:
        rngs = [np.random.default_rng((0, number)) for number in range(40)]
        return batch_of(Split((case,), ()), rngs, drop_contrasts=share)

    (whole, targets), (lacking, same_targets) = drawn(0.0), drawn(0.4)
    assert torch.equal(targets, same_targets)
    dropped = [dropped_of(image) for image in lacking]
    assert 0 < sum(map(sum, dropped)) < 80
    for before, after, lost in zip(whole, lacking, dropped, strict=True):
        kept = [channel for channel in range(5) if not lost[channel]]
        assert torch.equal(after[kept], before[kept])


def test_a_patch_lacks_the_same_contrasts_alone_or_in_a_batch(case: TrainingCase) -> None:
    """As drawn by a resumed run, or by one of several processes."""
    split, numbers = Split((case,), ()), range(6)

    def drawn(*numbers: int) -> Tensor:
        rngs = [np.random.default_rng((0, 7, number)) for number in numbers]
        return batch_of(split, rngs, drop_contrasts=0.5)[0]

    assert torch.equal(drawn(*numbers), torch.cat([drawn(number) for number in numbers]))
    assert torch.equal(drawn(1, 3, 5), drawn(*numbers)[1::2])


def test_without_dropping_the_generator_draws_nothing_more(case: TrainingCase) -> None:
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    image, _ = batch_of(Split((case,), ()), [one], phantom_share=0)
    other.integers(1)  # the case
    assert torch.equal(image[0], draw_patch(case, (8, 8, 8), other, CPU)[0])
    assert one.bit_generator.state == other.bit_generator.state
