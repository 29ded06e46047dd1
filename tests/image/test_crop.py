"""Grid, content and crop, and the way back; against world coordinates, scipy and plain numpy."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.errors import CaseError
from brats_infer.files.nifti import Volume, read_images
from brats_infer.image import crop as preprocess
from brats_infer.image.crop import CROP_MARGIN, crop_labels, crop_to_brain, restore_probabilities
from brats_infer.image.quality import oddities
from tests.case_files import SRI24, head
from tests.image.volumes import case_of, place_numbers, warnings_of

ORIENTATIONS = [
    (order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)
]


def turned(
    image: NDArray[np.generic], affine: NDArray[np.float64], order: tuple[int, ...], flips: tuple[int, ...]
) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """The same anatomy stored with other axes, and the affine that says so."""
    there = np.zeros((4, 4))  # indices of the new array -> those of the old
    there[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        there[old, new] = flip
        there[old, 3] += image.shape[old] - 1 if flip < 0 else 0
    new_image = image.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    return new_image, affine @ there


# axes


def test_canonical_axes_are_those_of_the_challenges_grid() -> None:
    image = place_numbers((16, 20, 18), SRI24)
    cropped = crop_to_brain(case_of([image] * 4, SRI24))
    assert np.array_equal(cropped.images[0], image[cropped.restore.box])


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_any_axis_order_and_flip_gives_the_same_brain_and_returns_to_its_own_grid(
    order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    plain = place_numbers((16, 20, 18), SRI24)
    image, affine = turned(plain, SRI24, order, flips)
    assert np.array_equal(image, place_numbers(image.shape, affine))  # the oracle turns anatomy, not only arrays
    images = [image * factor for factor in (1, 2, 3, 4)]
    cropped = crop_to_brain(case_of(images, affine))
    expected = crop_to_brain(case_of([plain * factor for factor in (1, 2, 3, 4)], SRI24))
    assert np.array_equal(cropped.images, expected.images)
    assert cropped.images.flags.c_contiguous
    back = restore_probabilities(cropped.images, cropped.restore)
    assert np.array_equal(back, np.stack(images))
    assert back.flags.c_contiguous
    labels = (image != 0).astype(np.uint8) * (1 + np.argsort(order)[0]).astype(np.uint8)
    assert np.array_equal(crop_labels(labels, cropped.restore) > 0, cropped.brain)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS[::7])
@pytest.mark.parametrize("angle", [0.0, 0.3, 0.7])
def test_oblique_grids_keep_their_voxels_and_take_the_nearest_axes(
    order: tuple[int, ...], flips: tuple[int, ...], angle: float
) -> None:
    oblique = nib.affines.from_matvec(nib.eulerangles.euler2mat(angle / 2, 0, angle)) @ SRI24
    image, affine = turned(place_numbers((16, 20, 18), oblique), oblique, order, flips)
    cropped = crop_to_brain(case_of([image] * 4, affine))
    plain = crop_to_brain(case_of([place_numbers((16, 20, 18), oblique)] * 4, oblique))
    assert np.array_equal(cropped.images, plain.images)
    assert np.array_equal(restore_probabilities(cropped.images[:1], cropped.restore)[0], image)


@given(
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=14),
    st.sampled_from(ORIENTATIONS),
    st.integers(0, 2**32 - 1),
)
def test_restore_undoes_the_crop_on_any_grid_of_1_mm(shape: tuple[int, int, int], orientation, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.float32)
    for _ in range(2):
        image[tuple(int(rng.integers(n)) for n in shape)] = rng.normal()
    image[tuple(int(rng.integers(n)) for n in shape)] = -7
    _, affine = turned(image, SRI24, *orientation)
    try:
        cropped = crop_to_brain(case_of([image] * 4, affine))
    except CaseError:  # all in one voxel
        assert len(np.unique(image[image != 0])) == 1
        return
    back = restore_probabilities(cropped.images, cropped.restore)
    assert np.array_equal(back, np.stack([image] * 4))
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    assert np.array_equal(
        restore_probabilities(crop_labels(labels, cropped.restore)[None].astype(np.float32), cropped.restore)[0],
        np.where(restore_probabilities(np.ones_like(cropped.images[:1]), cropped.restore)[0] > 0, labels, 0),
    )


# crop


def test_the_crop_is_the_bounding_box_of_all_modalities_with_a_margin_inside_the_volume() -> None:
    images = [np.zeros((40, 30, 20), np.float32) for _ in range(4)]
    for image in images:
        image[20, 15, 10], image[21, 15, 10] = 5, 6
    images[0][10, 15, 10] = -1  # negative is brain
    images[3][20, 28, 1] = 1e-6
    cropped = crop_to_brain(case_of(images, SRI24))
    m = CROP_MARGIN
    assert cropped.restore.box == (slice(10 - m, 22 + m), slice(15 - m, 30), slice(0, 11 + m))
    assert cropped.images.shape == (4, 12 + 2 * m, 15 + m, 11 + m)
    assert cropped.brain.sum() == 4


# spacing


def smooth_case(
    shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> tuple[dict[Path, Volume], np.ndarray]:
    """A smooth brain on a grid of that spacing, and the mask of a ball of 6 mm in it."""
    centres = [(np.arange(n) + 0.5) * mm for n, mm in zip(shape, spacing, strict=True)]
    at = np.stack(np.meshgrid(*centres, indexing="ij"))
    middle = np.array(shape) * spacing / 2
    distance = np.sqrt(((at - middle[:, None, None, None]) ** 2).sum(axis=0))
    image = np.where(distance < 12, 100 + 10 * at[0] - 3 * at[1] + at[2], 0).astype(np.float32)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    return case_of([image] * 4, affine), distance < 6


SPACINGS = [(0.8, 0.8, 0.8), (1.0, 1.0, 3.0), (0.5, 1.7, 1.2), (2.0, 2.0, 2.0), (1.0, 0.9375, 1.4)]


def extent(spacing: tuple[float, float, float], mm: int = 30) -> tuple[int, int, int]:
    x, y, z = (round(mm / step) for step in spacing)
    return x, y, z


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_resampling_to_1_mm_is_linear_interpolation_between_voxel_centres(spacing: tuple[float, float, float]) -> None:
    volumes, _ = smooth_case(extent(spacing), spacing)
    cropped = crop_to_brain(volumes)
    image = next(iter(volumes.values())).data
    shape = cropped.restore.canonical_shape
    assert shape == tuple(round(n * mm) for n, mm in zip(image.shape, spacing, strict=True))
    at = [(np.arange(n) + 0.5) / mm - 0.5 for n, mm in zip(shape, spacing, strict=True)]
    there = np.stack(np.meshgrid(*at, indexing="ij"))
    expected = ndimage.map_coordinates(image, there, order=1, mode="nearest")[cropped.restore.box]
    brain = cropped.brain
    assert np.allclose(cropped.images[0][brain], expected[brain], rtol=1e-4)
    whole = ndimage.map_coordinates((image != 0).astype(np.float32), there, order=1)[cropped.restore.box]
    assert brain[whole > 0.999].all()  # the mask neither grows nor shrinks
    assert not brain[whole < 0.001].any()
    assert "resampled to 1 mm" in oddities(volumes, cropped)[0]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_blob_survives_the_way_to_1_mm_and_back(spacing: tuple[float, float, float]) -> None:
    volumes, ball = smooth_case(extent(spacing), spacing)
    cropped = crop_to_brain(volumes)
    at_1mm = crop_labels(ball.astype(np.uint8), cropped.restore)
    assert at_1mm.shape == cropped.images.shape[1:]
    assert at_1mm.sum() == pytest.approx(ball.sum() * np.prod(spacing), rel=0.1)
    back = restore_probabilities(at_1mm[None].astype(np.float32), cropped.restore)
    assert back.shape == (1, *ball.shape)
    assert dice(back[0] > 0.5, ball) > 0.93


@pytest.mark.parametrize(("slices", "mm"), [(41, 0.5), (61, 0.3), (60, 0.3), (1, 0.4)])
def test_a_brain_that_reaches_the_border_does_so_on_the_way_back(slices: int, mm: float) -> None:
    """A grid of whole millimetres ends before that of the input."""
    image = np.ones((slices, 12, 10), np.float32)
    image[:, 3:9, 2:8] = 2
    cropped = crop_to_brain(case_of([image * n for n in range(1, 5)], np.diag([mm, 1, 1, 1])))
    assert (cropped.images > 0).all()
    back = restore_probabilities(np.ones((1, *cropped.images.shape[1:]), np.float32), cropped.restore)
    assert back.shape == (1, *image.shape)
    assert (back == 1).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_probabilities_come_back_by_linear_interpolation_between_voxel_centres(
    spacing: tuple[float, float, float],
) -> None:
    volumes, ball = smooth_case(extent(spacing), spacing)
    restore = crop_to_brain(volumes).restore
    at_1mm = np.zeros(restore.canonical_shape, np.float32)
    inside = at_1mm[restore.box]
    inside[:] = np.random.default_rng(0).random(inside.shape, np.float32)
    back = restore_probabilities(inside[np.newaxis], restore)[0]
    at = [(np.arange(n) + 0.5) * mm - 0.5 for n, mm in zip(ball.shape, spacing, strict=True)]
    there = np.stack(np.meshgrid(*at, indexing="ij"))
    within = np.logical_and.reduce([(p >= 0) & (p <= n - 1) for p, n in zip(there, at_1mm.shape, strict=True)])
    assert within.mean() > 0.5
    expected = ndimage.map_coordinates(at_1mm, there, order=1)
    np.testing.assert_allclose(back[within], expected[within], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_other_spacings_and_axes_together_give_the_same_brain(order: tuple[int, ...], flips: tuple[int, ...]) -> None:
    spacing = (1.4, 0.9, 2.0)
    volumes, ball = smooth_case(extent(spacing), spacing)
    volume = next(iter(volumes.values()))
    plain = crop_to_brain(volumes)
    image, affine = turned(volume.data, volume.geometry.affine, order, flips)
    cropped = crop_to_brain(case_of([image] * 4, affine))
    assert np.allclose(cropped.images, plain.images, atol=1e-2)
    mask, _ = turned(ball, volume.geometry.affine, order, flips)
    back = restore_probabilities(crop_labels(mask.astype(np.uint8), cropped.restore)[None] > 0.5, cropped.restore)
    assert dice(back[0] > 0.5, mask) > 0.93


@pytest.mark.parametrize("off", [0.0, 0.009, -0.009])
def test_a_spacing_of_almost_1_mm_is_left_alone(off: float) -> None:
    image = place_numbers((16, 20, 18), SRI24)
    volumes = case_of([image * n for n in range(1, 5)], np.diag([-1 - off, -1, 1, 1]))
    cropped = crop_to_brain(volumes)
    assert not cropped.restore.resampled
    assert warnings_of(volumes) == []
    assert np.array_equal(restore_probabilities(cropped.images[:1], cropped.restore)[0], image)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((20, 20, 1), (1.0, 1.0, 5.0)), ((20, 20, 3), (1.0, 1.0, 0.2)), ((1, 9, 9), (1.0, 1.0, 1.0))]
)
def test_a_thin_slab_and_a_single_slice_work(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    image = np.random.default_rng(0).normal(50, 9, shape).astype(np.float32)
    cropped = crop_to_brain(case_of([image] * 4, np.diag([*spacing, 1.0])))
    assert restore_probabilities(cropped.images, cropped.restore).shape == (4, *shape)


def test_a_grid_larger_than_a_head_is_refused_before_anything_is_resampled() -> None:
    image = head().astype(np.float32)
    with pytest.raises(CaseError, match=r"^case: 1200x1400x1000 mm is larger than a head"):
        crop_to_brain(case_of([image] * 4, np.diag([100.0, 100.0, 100.0, 1.0])))


@pytest.mark.parametrize("others", ["vanish", "stay"])
def test_an_image_that_vanishes_at_1_mm_is_refused(others: str) -> None:
    image = np.zeros((40, 40, 40), np.float32)
    image[0, 0, :2] = (3, 4)
    rest = image if others == "vanish" else np.random.default_rng(0).normal(5, 1, image.shape).astype(np.float32)
    with pytest.raises(CaseError, match="nothing is left of it at 1 mm"):
        crop_to_brain(case_of([rest, rest, image, rest], np.diag([0.1, 0.1, 0.1, 1.0])))


def test_background_stays_exactly_0_when_resampled() -> None:
    """Beside the brain as far from it: the mask is the nearest voxel's."""
    spacing = (1.3, 0.9, 2.2)
    volumes, _ = smooth_case((24, 30, 15), spacing)
    cropped = crop_to_brain(volumes)
    image = next(iter(volumes.values())).data
    at = [(np.arange(n) + 0.5) / mm - 0.5 for n, mm in zip(cropped.restore.canonical_shape, spacing, strict=True)]
    there = np.stack(np.meshgrid(*at, indexing="ij"))
    brain = ndimage.map_coordinates((image != 0).astype(np.uint8), there, order=0, mode="nearest") > 0
    clear = (np.abs(there % 1 - 0.5) > 1e-6).all(axis=0)  # of the middle between two voxels
    box = cropped.restore.box
    assert clear.mean() > 0.8
    corner = cropped.images[:, :2, :2, :2]
    assert np.array_equal(corner, np.zeros_like(corner))
    assert np.array_equal((cropped.images[0] != 0)[clear[box]], brain[box][clear[box]])


def test_what_is_larger_than_a_head_is_refused_before_a_network_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [place_numbers((16, 20, 18), SRI24) * n for n in range(1, 5)]
    size = crop_to_brain(case_of(images, SRI24)).images[0].size
    monkeypatch.setattr(preprocess, "MAX_CROP", size)
    crop_to_brain(case_of(images, SRI24))
    monkeypatch.setattr(preprocess, "MAX_CROP", size - 1)
    with pytest.raises(CaseError, match=r"spans \d+x\d+x\d+ mm, more than a head"):
        crop_to_brain(case_of(images, SRI24))


def volumes_of(shared: Path, name: str) -> dict[Path, Volume]:
    folder = shared / "cases" / name
    return read_images([folder / f"{folder.name}-{m}.nii.gz" for m in ("t1n", "t1c", "t2w", "t2f")])


def test_real_cases_of_both_grids_come_back_voxel_by_voxel(shared: Path) -> None:
    for name in ("gli/images/BraTS-GLI-90004-000", "ssa/images/BraTS-SSA-00002-000"):
        volumes = volumes_of(shared, name)
        cropped = crop_to_brain(volumes)
        expected = nib.load(shared / "cases" / name / f"{Path(name).name}-t1c.nii.gz").get_fdata(dtype=np.float32)
        assert np.array_equal(restore_probabilities(cropped.images[1:2], cropped.restore)[0], expected)
        assert warnings_of(volumes) == []
        assert np.prod(cropped.images.shape[1:]) < 0.6 * expected.size
