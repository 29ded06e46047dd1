"""Losses on region channels (paper 2.3; Futrega et al. 2021, section 2.3)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice of each region over the whole batch, averaged: (B, R, X, Y, Z) twice -> scalar in 0..1.

    `smooth` voxels are added above and below the line: an absent region that is predicted absent costs nothing.
    """
    probabilities = torch.sigmoid(logits)
    axes = (0, 2, 3, 4)
    overlap = (probabilities * targets).sum(axes)
    sizes = probabilities.sum(axes) + targets.sum(axes)
    return (1 - (2 * overlap + smooth) / (sizes + smooth)).mean()


def dice_bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Batch Dice plus binary cross-entropy, both over regions: (B, R, X, Y, Z) twice -> scalar."""
    return dice_loss(logits, targets) + functional.binary_cross_entropy_with_logits(logits, targets)


def deep_supervision_loss(heads: Sequence[Tensor], targets: Tensor) -> Tensor:
    """The loss of every head, each on a grid half as fine as the one before, weighted 1, 1/2, 1/4 (normalised).

    Targets (B, R, X, Y, Z) are brought to a head's grid by taking every second, fourth, … voxel (nearest neighbour).
    """
    weights = [0.5**i for i in range(len(heads))]
    losses = [
        dice_bce_loss(logits.to(targets.dtype), targets[:, :, :: 2**i, :: 2**i, :: 2**i])  # never in 16 bits
        for i, logits in enumerate(heads)
    ]
    total = sum((w * loss for w, loss in zip(weights, losses, strict=True)), torch.zeros((), device=targets.device))
    return total / sum(weights)
