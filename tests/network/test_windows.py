"""How a case goes through one network, beside MONAI and beside the rule written out."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from brats_infer.image.voxels import EVERYTHING
from brats_infer.network.devices import autocast
from brats_infer.network.engines import TorchEngine
from brats_infer.network.windows import (
    CLOSER_SIDE,
    NEAR,
    closer_box,
    coarser,
    finer,
    gaussian_weights,
    predict_member,
    sliding_window,
)
from model.unet import UNet
from tests.small_networks import (
    SMALL,
    WINDOW,
    random_network,
)

CPU = torch.device("cpu")


DUST = 500  # voxels


Shape = tuple[int, int, int]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_input(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def where_in_the_window(batch: Tensor) -> Tensor:
    """A "network" whose result depends on where in the window a voxel lies, so that every weight counts."""
    x = batch[:, :2]  # (B, 2, X, Y, Z)
    return torch.cat((x.cumsum(dim=2) + x.cumsum(dim=4), x.flip(3).sin(), x - x.mean(dim=(2, 3, 4), keepdim=True)), 1)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 21)] * 3),
    window=st.tuples(*[st.integers(1, 10)] * 3),
    overlap=st.sampled_from([0.5, 0.25, 0.0]),
)
def test_windows_are_summed_as_monai_does(shape: Shape, window: Shape, overlap: float) -> None:
    x = random_input((2, *shape))
    expected = sliding_window_inference(
        x[None], window, 1, where_in_the_window, overlap=overlap, mode="gaussian", sigma_scale=0.125
    )[0]
    sizes: set[int] = set()

    def predictor(batch: Tensor) -> Tensor:
        sizes.add(len(batch))
        return where_in_the_window(batch)

    found = sliding_window(x, predictor, window, overlap)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert sizes == {1}


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 7, 3), (17, 12, 9), (9, 4, 14)])
def test_windows_of_a_network_are_summed_as_monai_does(shape: Shape) -> None:
    network = random_network()
    x = random_input((5, *shape))
    with torch.no_grad():
        expected = sliding_window_inference(x[None], WINDOW, 4, network, 0.5, mode="gaussian", sigma_scale=0.125)[0]
        found = sliding_window(x, network, WINDOW)
    assert found.shape == (3, *shape)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_window_as_large_as_the_input_is_one_plain_pass() -> None:
    x = random_input((2, 8, 6, 10))
    calls: list[Tensor] = []

    def predictor(batch: Tensor) -> Tensor:
        calls.append(batch)
        return where_in_the_window(batch)

    found = sliding_window(x, predictor, (8, 6, 10))
    assert len(calls) == 1
    torch.testing.assert_close(found, where_in_the_window(x[None])[0])


def test_weights_fall_from_the_centre_and_never_vanish() -> None:
    weights = gaussian_weights((16, 17, 64), CPU)
    assert weights.shape == (16, 17, 64)
    assert 0.9 < float(weights.max()) <= 1
    assert float(weights[0, 0, 0]) == float(weights.min()) == pytest.approx(1e-3)
    for axis in range(3):
        torch.testing.assert_close(weights, weights.flip(axis))


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 7, 3), (17, 12, 23), (16, 8, 8)])
@torch.no_grad()
def test_whole_brain_is_the_network_on_the_padded_input(shape: Shape) -> None:
    network = random_network()
    x = random_input((5, *shape))
    sides = [max(8, -(-n // 4) * 4) for n in shape]
    padded = torch.zeros((1, 5, *sides))
    padded[0, :, : shape[0], : shape[1], : shape[2]] = x
    expected = sigmoid_of(network)(padded)[0, :, : shape[0], : shape[1], : shape[2]]
    torch.testing.assert_close(predict_member(TorchEngine(network), x, None, flips=False), expected, rtol=0, atol=1e-6)


def mirrored_mean(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """The plain loop over eight mirror images, one index at a time."""
    results = []
    for signs in itertools.product((1, -1), repeat=3):
        indices = [
            torch.arange(n) if sign == 1 else torch.arange(n - 1, -1, -1)
            for n, sign in zip(x.shape[1:], signs, strict=True)
        ]
        i, j, k = torch.meshgrid(*indices, indexing="ij")
        results.append(function(x[:, i, j, k])[:, i, j, k])
    assert len(results) == 8
    return torch.stack(results).mean(dim=0)


def sigmoid_of(network: UNet) -> Callable[[Tensor], Tensor]:
    def probabilities(batch: Tensor) -> Tensor:
        with autocast(CPU):
            return torch.sigmoid(network(batch).float())

    return probabilities


@pytest.mark.parametrize("window", [None, WINDOW], ids=["whole", "windows"])
@torch.no_grad()
def test_flips_are_the_mean_over_eight_mirror_images(window: Shape | None) -> None:
    network = random_network()
    x = random_input((5, 9, 8, 7))
    probabilities = sigmoid_of(network)

    def once(flipped: Tensor) -> Tensor:
        if window:
            return sliding_window(flipped, probabilities, window)
        padded = functional.pad(flipped, (0, 1, 0, 0, 0, 3))  # to multiples of 4
        return probabilities(padded[None])[0, :, :9, :8, :7]

    found = predict_member(TorchEngine(network), x, window, flips=True)
    torch.testing.assert_close(found, mirrored_mean(x, once), rtol=0, atol=1e-6)
    plain = predict_member(TorchEngine(network), x, window, flips=False)
    torch.testing.assert_close(plain, once(x), rtol=0, atol=1e-6)
    assert (found - plain).abs().max() > 0.01


@torch.no_grad()
def test_disjoint_labels_become_nested_regions(rng: np.random.Generator) -> None:
    network = random_network(replace(SMALL, disjoint=True))
    x = torch.from_numpy(rng.normal(0, 1, (5, 8, 8, 8)).astype(np.float32))
    with torch.inference_mode():
        with autocast(CPU):
            logits = network(x[None])[0]
        edema, necrosis, enhancing = torch.sigmoid(logits.float()).numpy()
        found = predict_member(TorchEngine(network), x, None, flips=False).numpy()
    expected = np.stack((edema + necrosis + enhancing, necrosis + enhancing, enhancing))
    np.testing.assert_allclose(found, np.minimum(expected, 1), rtol=0, atol=1e-6)
    assert (found[0] == 1).any()


def test_flipped_input_gives_the_flipped_result() -> None:
    network = random_network()
    x = random_input((5, 8, 12, 16))  # needs no padding
    for axis in (1, 2, 3):
        found = predict_member(TorchEngine(network), x.flip(axis), None, flips=True).flip(axis)
        torch.testing.assert_close(found, predict_member(TorchEngine(network), x, None, flips=True), rtol=0, atol=1e-6)


@torch.no_grad()
def test_predicting_leaves_the_input_as_it_was() -> None:
    x = random_input((5, 9, 8, 8))
    before = x.clone()
    for window in (None, WINDOW):
        predict_member(TorchEngine(random_network()), x, window, flips=True)
        assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(16, 18, 20), (15, 17, 19), (1, 7, 2)])
def test_coarser_is_the_mean_of_each_cube(shape: Shape) -> None:
    x = torch.randn((2, *shape))
    found = coarser(x, 2)
    padded = np.pad(x.numpy(), [(0, 0), *((0, n % 2) for n in shape)])
    expected = ndimage.uniform_filter(padded, (0, 2, 2, 2), origin=(0, -1, -1, -1))[:, ::2, ::2, ::2]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert finer(found, 2, shape).shape == x.shape


def test_finer_puts_a_ramp_back_where_it_was() -> None:
    ramp = torch.linspace(0, 1, 20).reshape(1, 20, 1, 1).expand(1, 20, 20, 20)
    torch.testing.assert_close(finer(coarser(ramp, 2), 2, (20, 20, 20))[:, 1:-1], ramp[:, 1:-1])


def test_coarse_member_answers_on_the_fine_grid() -> None:
    network = random_network(seed=5)
    x = torch.randn((network.config.in_channels, 20, 22, 19))
    expected = finer(predict_member(TorchEngine(network), coarser(x, 2), None, flips=False), 2, (20, 22, 19))
    network.config = replace(network.config, spacing=2)
    assert torch.equal(predict_member(TorchEngine(network), x, None, flips=False), expected)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 240)] * 3),
    corners=st.tuples(*[st.tuples(st.floats(0, 1), st.floats(0, 1))] * 3),
    step=st.sampled_from([1, 16, 32, 64]),
)
def test_closer_box_holds_all_that_is_possible(
    shape: Shape, corners: tuple[tuple[float, float], ...], step: int
) -> None:
    possible = np.zeros(shape, bool)
    ends = [sorted(int(at * (n - 1)) for at in pair) for pair, n in zip(corners, shape, strict=True)]
    for corner in zip(*ends, strict=True):
        possible[corner] = True
    box = closer_box(possible, step, DUST)
    for side, (first, last), n in zip(box, ends, shape, strict=True):
        assert 0 <= side.start <= max(0, first - NEAR)
        assert min(n, last + 1 + NEAR) <= side.stop <= n
        length = side.stop - side.start
        assert length == n or (length % step == 0 and length >= CLOSER_SIDE)
        assert length < max(CLOSER_SIDE, last + 1 - first + 2 * NEAR) + step
        if side.start > 0 and side.stop < n:
            assert abs((first - side.start) - (side.stop - 1 - last)) <= 1


def test_closer_box_is_everything_where_nothing_is_possible() -> None:
    assert closer_box(np.zeros((200, 7, 150), bool), 32, DUST) == EVERYTHING


def test_closer_box_is_not_widened_by_small_components() -> None:
    possible = np.zeros((300, 100, 100), bool)
    possible[100:110, 40:50, 40:50] = True  # 1000 voxels
    alone = closer_box(possible.copy(), 32, DUST)
    possible[280:, 40:65, 40] = True  # 500
    assert closer_box(possible.copy(), 32, DUST) == alone
    assert closer_box(possible.copy(), 32, DUST - 1)[0].stop == 300
    possible[280, 40, 41] = True
    assert closer_box(possible.copy(), 32, DUST)[0].stop == 300


def test_closer_box_holds_two_voxels_with_one_between_them() -> None:
    possible = np.zeros((300, 100, 100), bool)
    possible[120:124:2, 50, 50] = True
    box = closer_box(possible, 32, DUST)
    assert (box[0].start + box[0].stop) // 2 == 121


def test_closer_box_holds_small_components_where_there_is_nothing_else() -> None:
    possible = np.zeros((300, 100, 100), bool)
    possible[0, 50, 50] = possible[299, 50, 50] = True
    assert closer_box(possible, 32, DUST)[0] == slice(0, 300)


def test_background_around_a_brain_smaller_than_the_window_is_shared_out() -> None:
    x = random_input((2, 3, 4, 5))
    seen: list[Tensor] = []

    def predictor(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch

    found = sliding_window(x, predictor, (8, 8, 8))
    assert torch.equal(seen[0][0], functional.pad(x, (1, 2, 2, 2, 2, 3)))
    torch.testing.assert_close(found, x)
