"""Losses against the formulas written out in numpy, and their gradients against differences."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_infer.errors import UsageError
from brats_infer.tasks import TASKS
from brats_infer.train.step.losses import (
    LOSSES,
    TERMS,
    Loss,
    ce_loss,
    deep_supervision_loss,
    dice_loss,
    disjoint_targets,
    edge_loss,
    edges,
    focal_loss,
    loss_weights,
    mse_loss,
    weighted,
)

Array = NDArray[np.float64]
dice_bce_loss = weighted(LOSSES["dice-bce"])


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


def mse_by_hand(logits: Array, targets: Array) -> float:
    p = 1 / (1 + np.exp(-logits))
    return float(np.mean([((p[:, r] - targets[:, r]) ** 2).mean() for r in range(p.shape[1])]))


def focal_by_hand(logits: Array, targets: Array) -> float:
    p = 1 / (1 + np.exp(-logits))
    of_the_truth = np.where(targets == 1, p, 1 - p)
    return float(np.mean(-((1 - of_the_truth) ** 2) * np.log(of_the_truth)))


def edge_by_hand(logits: Array, targets: Array) -> float:
    def magnitudes(volume: Array) -> Array:
        gradients = [ndimage.sobel(volume, axis, mode="nearest") / 16 for axis in range(3)]
        return np.sqrt(sum((g**2 for g in gradients), np.zeros_like(volume)) + 1e-6)

    p = 1 / (1 + np.exp(-logits))
    pairs = ((magnitudes(p[b, r]), magnitudes(targets[b, r])) for b, r in np.ndindex(p.shape[:2]))
    return float(np.mean([((found - true) ** 2).mean() for found, true in pairs]))


BY_HAND = {
    "mse": mse_by_hand,
    "ce": bce_by_hand,
    "dice": dice_by_hand,
    "focal": focal_by_hand,
    "edge": edge_by_hand,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TERMS)
def test_term_is_its_formula(name: str, seed: int) -> None:
    logits, targets = random_pair(seed)
    assert TERMS[name](logits, targets).item() == pytest.approx(
        BY_HAND[name](logits.numpy(), targets.numpy()), rel=1e-9
    )


@pytest.mark.parametrize("name", TERMS)
def test_term_is_the_mean_of_its_channels(name: str) -> None:
    logits, targets = random_pair(0)
    alone = [TERMS[name](logits[:, r : r + 1], targets[:, r : r + 1]).item() for r in range(3)]
    assert TERMS[name](logits, targets).item() == pytest.approx(np.mean(alone))


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mse-ce-edge", {"mse": 0.25, "ce": 0.0044, "edge": 0.00015}),
        ("dice-focal-edge", {"dice": 1, "focal": 1, "edge": 0.05}),
        ("dice-focal-edge-light", {"dice": 1, "focal": 1, "edge": 0.005}),
        ("dice-bce", {"dice": 1, "ce": 1}),
        ("ce=2,edge=0.5", {"ce": 2, "edge": 0.5}),
    ],
)
def test_combination_is_the_weighted_sum_of_its_terms(name: str, weights: dict[str, float]) -> None:
    logits, targets = random_pair(0)
    expected = sum(weight * BY_HAND[term](logits.numpy(), targets.numpy()) for term, weight in weights.items())
    assert weighted(loss_weights(name))(logits, targets).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("text", ["", "hinge", "hinge=1", "dice", "dice=x", "dice=0", "dice=1=2", "ce=nan", "ce=inf"])
def test_unknown_loss_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=rf"--loss {text}: choose dice-bce"):
        loss_weights(text)


def test_plane_step_has_an_edge_of_one() -> None:
    step = torch.zeros((1, 1, 6, 5, 5), dtype=torch.float64)
    step[:, :, 3:] = 1
    expected = torch.zeros_like(step)
    expected[:, :, 2:4] = 1
    torch.testing.assert_close(edges(step), expected, atol=1e-3, rtol=0)


def test_disjoint_targets_are_the_labels_of_the_regions() -> None:
    labels = np.random.default_rng(0).integers(0, 4, (2, 5, 4, 3))
    regions = [np.isin(labels, region.labels) for region in TASKS["gli"].regions]
    found = disjoint_targets(torch.from_numpy(np.stack(regions, axis=1)).float())
    for channel, region in zip(found.unbind(1), TASKS["gli"].regions, strict=True):
        assert np.array_equal(channel.numpy(), labels == region.label)


@pytest.mark.parametrize("loss", [mse_loss, ce_loss, focal_loss, edge_loss])
@pytest.mark.parametrize("sure", [30.0, 1e4])
def test_large_logits_keep_their_digits_in_32_bits(loss: Loss, sure: float) -> None:
    _, targets = random_pair(0)
    logits = (1 - 2 * targets) * sure
    short = logits.float().requires_grad_()
    found = loss(short, targets.float())
    found.backward()
    assert found.item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)
    assert short.grad is not None
    assert short.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smooth", [1.0, 1e-3])
def test_dice_is_that_of_each_region_over_the_whole_batch(seed: int, smooth: float) -> None:
    logits, targets = random_pair(seed)
    expected = dice_by_hand(logits.numpy(), targets.numpy(), smooth)
    assert dice_loss(logits, targets, smooth).item() == pytest.approx(expected, rel=1e-9)


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
    assert deep_supervision_loss(heads, targets, dice_bce_loss).item() == pytest.approx(expected, rel=1e-9)


def test_a_single_head_is_not_weighted() -> None:
    logits, targets = random_pair(0)
    assert deep_supervision_loss([logits], targets, dice_bce_loss).item() == pytest.approx(
        dice_bce_loss(logits, targets).item()
    )


def test_heads_of_16_bits_are_summed_in_the_precision_of_the_targets() -> None:
    logits, targets = random_pair(0)
    short = logits.bfloat16()
    loss = deep_supervision_loss([short], targets.float(), dice_bce_loss)
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


@pytest.mark.parametrize("name", TERMS)
def test_gradient_is_that_of_differences(name: str) -> None:
    logits, targets = random_pair(0, (2, 2, 2, 4, 2))
    assert torch.autograd.gradcheck(lambda x: TERMS[name](x, targets), (logits.requires_grad_(),))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_heads_are_those_of_differences(name: str) -> None:
    loss = weighted(LOSSES[name])
    first, targets = random_pair(0, (2, 2, 2, 4, 2))
    heads = (first.requires_grad_(), random_pair(1, (2, 2, 1, 2, 1))[0].requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: deep_supervision_loss([x, y], targets, loss), heads)
