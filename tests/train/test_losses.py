"""Losses against the formulas written out in numpy, and their gradients against differences."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.train.losses import deep_supervision_loss, dice_bce_loss, dice_loss

Array = NDArray[np.float64]


def random_pair(seed: int, shape: tuple[int, ...] = (2, 3, 4, 6, 8)) -> tuple[Tensor, Tensor]:
    """Logits and targets, float64; the regions differ in size."""
    rng = np.random.default_rng(seed)
    share = np.linspace(0.6, 0.1, shape[1])[:, None, None, None]
    return torch.from_numpy(rng.normal(0, 2, shape)), torch.from_numpy((rng.random(shape) < share).astype(np.float64))


def dice_by_hand(logits: Array, targets: Array, smooth: float = 1.0) -> float:
    losses = []
    for region in range(logits.shape[1]):
        overlap = size = 0.0
        for x, t in zip(logits[:, region].ravel(), targets[:, region].ravel(), strict=True):
            p = 1 / (1 + np.exp(-x))
            overlap += p * t
            size += p + t
        losses.append(1 - (2 * overlap + smooth) / (size + smooth))
    return float(np.mean(losses))


def bce_by_hand(logits: Array, targets: Array) -> float:
    p = 1 / (1 + np.exp(-logits))
    return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smooth", [1.0, 1e-3])
def test_dice_is_that_of_each_region_over_the_whole_batch(seed: int, smooth: float) -> None:
    logits, targets = random_pair(seed)
    expected = dice_by_hand(logits.numpy(), targets.numpy(), smooth)
    assert dice_loss(logits, targets, smooth).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_dice_bce_is_the_sum_of_both(seed: int) -> None:
    logits, targets = random_pair(seed)
    expected = dice_by_hand(logits.numpy(), targets.numpy()) + bce_by_hand(logits.numpy(), targets.numpy())
    assert dice_bce_loss(logits, targets).item() == pytest.approx(expected, rel=1e-9)


def test_heads_are_weighted_one_half_quarter() -> None:
    first, targets = random_pair(0, (1, 3, 8, 8, 12))
    heads = [first, random_pair(1, (1, 3, 4, 4, 6))[0], random_pair(2, (1, 3, 2, 2, 3))[0]]
    expected = 0.0
    for i, (head, weight) in enumerate(zip(heads, (4 / 7, 2 / 7, 1 / 7), strict=True)):
        coarse = np.empty(head.shape)
        for voxel in np.ndindex(*head.shape[2:]):
            x, y, z = (n * 2**i for n in voxel)
            coarse[:, :, *voxel] = targets.numpy()[:, :, x, y, z]
        expected += weight * (dice_by_hand(head.numpy(), coarse) + bce_by_hand(head.numpy(), coarse))
    assert deep_supervision_loss(heads, targets).item() == pytest.approx(expected, rel=1e-9)


def test_a_single_head_is_not_weighted() -> None:
    logits, targets = random_pair(0)
    assert deep_supervision_loss([logits], targets).item() == pytest.approx(dice_bce_loss(logits, targets).item())


def test_heads_of_16_bits_are_summed_in_the_precision_of_the_targets() -> None:
    logits, targets = random_pair(0)
    short = logits.bfloat16()
    loss = deep_supervision_loss([short], targets.float())
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(dice_bce_loss(short.float(), targets.float()).item(), rel=1e-6)


@pytest.mark.parametrize("size", [0.0, 1.0], ids=["absent", "everywhere"])
def test_a_sure_and_right_prediction_costs_nothing(size: float) -> None:
    targets = torch.full((1, 3, 4, 4, 4), size)
    assert dice_bce_loss((targets * 2 - 1) * 1e4, targets).item() == pytest.approx(0, abs=1e-6)


def test_a_sure_and_wrong_prediction_is_finite() -> None:
    targets = torch.ones((1, 3, 4, 4, 4))
    logits = torch.full_like(targets, -1e4, requires_grad=True)
    loss = dice_bce_loss(logits, targets)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert dice_loss(logits, targets).item() == pytest.approx(1, abs=0.02)


def test_gradients_are_those_of_differences() -> None:
    first, targets = random_pair(0, (2, 2, 2, 4, 2))
    second = random_pair(1, (2, 2, 1, 2, 1))[0]
    first.requires_grad_()
    second.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, targets), (first,))
    assert torch.autograd.gradcheck(lambda x: dice_bce_loss(x, targets), (first,))
    assert torch.autograd.gradcheck(lambda x, y: deep_supervision_loss([x, y], targets), (first, second))
