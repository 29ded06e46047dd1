"""Losses on region channels (paper 2.3, 3.2; Futrega et al. 2021, section 2.3).

Every term takes logits and targets (B, R, X, Y, Z) and returns a scalar, the mean over the channels. The tensors are
float32: sums over millions of voxels and exponentials of large logits overflow in 16 bits.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from brats_infer.errors import UsageError
from brats_infer.train.distributed import sum_over_workers

Loss = Callable[[Tensor, Tensor], Tensor]

FOCUS = 2.0  # gamma of Lin et al. 2017, arXiv 1708.02002
EDGE_FLOOR = 1e-6  # keeps the gradient of the square root finite at 0


def mse_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the probabilities."""
    return functional.mse_loss(torch.sigmoid(logits), targets)


def ce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, from the logits: finite, and with a gradient, even for confident wrong voxels."""
    return functional.binary_cross_entropy_with_logits(logits, targets)


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice over the whole batch of all workers, in 0..1.

    `smooth` voxels are added to numerator and denominator: a region that is rightly predicted absent costs nothing.
    """
    probabilities = torch.sigmoid(logits)
    axes = (0, 2, 3, 4)
    parts = torch.stack(((probabilities * targets).sum(axes), probabilities.sum(axes) + targets.sum(axes)))
    overlap, sizes = sum_over_workers(parts)
    loss: Tensor = (1 - (2 * overlap + smooth) / (sizes + smooth)).mean()
    return loss


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each voxel times (1 - p)^2; p is the probability of the true class (Lin et al. 2017)."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = torch.sigmoid(logits) * (1 - targets) + torch.sigmoid(-logits) * targets  # 1 - p would lose digits
    return (missed**FOCUS * entropy).mean()


def edge_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error between the edges of the probabilities and the edges of the targets (paper 2.3)."""
    return functional.mse_loss(edges(torch.sigmoid(logits)), edges(targets))


def edges(x: Tensor) -> Tensor:
    """Gradient magnitudes (B, R, X, Y, Z) by the 3-D Sobel operator; the border is replicated outwards.

    A plane step from 0 to 1 has the magnitude 1. The paper does not say how it normalises. Division by the largest
    magnitude of the patch would amplify the noise of a prediction without an edge.
    """
    smooth, slope = x.new_tensor((0.25, 0.5, 0.25)), x.new_tensor((-1.0, 0.0, 1.0))
    kernels = [
        torch.einsum("i,j,k->ijk", *(slope if axis == along else smooth for axis in range(3))) for along in range(3)
    ]
    padded = functional.pad(x.flatten(0, 1)[:, None], [1] * 6, mode="replicate")  # (B*R, 1, X+2, Y+2, Z+2)
    gradients = functional.conv3d(padded, torch.stack(kernels)[:, None])  # (B*R, 3, X, Y, Z)
    return (gradients.square().sum(1) + EDGE_FLOOR).sqrt().view_as(x)


TERMS: dict[str, Loss] = {
    "mse": mse_loss,
    "ce": ce_loss,
    "dice": dice_loss,
    "focal": focal_loss,
    "edge": edge_loss,
}
LOSSES: dict[str, dict[str, float]] = {
    "dice-bce": {"dice": 1.0, "ce": 1.0},
    "mse-ce-edge": {"mse": 0.25, "ce": 0.0044, "edge": 0.00015},
    "dice-focal-edge": {"dice": 1.0, "focal": 1.0, "edge": 0.05},
    "dice-focal-edge-light": {"dice": 1.0, "focal": 1.0, "edge": 0.005},
}
"""Named combinations: {term: weight}."""


def loss_weights(text: str) -> dict[str, float]:
    """{term: weight} of a named combination, or of a text such as `dice=1,edge=0.05`. Raises UsageError."""
    if text in LOSSES:
        return LOSSES[text]
    parts = text.split(",")
    try:
        weights = {name: float(weight) for name, weight in (part.split("=") for part in parts)}
    except ValueError:
        weights = {}
    known = len(weights) == len(parts) and set(weights) <= set(TERMS)
    if not known or not 0 < sum(weights.values()) < float("inf") or min(weights.values()) < 0:
        raise UsageError(
            f"--loss {text}: choose {', '.join(LOSSES)}, or weights such as dice=1,edge=0.05, from 0, each once, of "
            f"{', '.join(TERMS)}"
        )
    return weights


def weighted(weights: dict[str, float]) -> Loss:
    """The weighted sum of terms."""

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([weight * TERMS[name](logits, targets) for name, weight in weights.items()]).sum()

    return loss


def disjoint_targets(regions: Tensor) -> Tensor:
    """Nested regions (B, R, X, Y, Z), outermost first -> disjoint labels: each region minus the next inner one."""
    return torch.cat((regions[:, :-1] - regions[:, 1:], regions[:, -1:]), dim=1)


def deep_supervision_loss(heads: Sequence[Tensor], targets: Tensor, loss: Loss) -> Tensor:
    """The mean loss of the heads, weighted 1, 1/2, 1/4; the first grid is that of the targets, the others are coarser.

    A head's targets are every second, fourth, … voxel of the targets (B, R, X, Y, Z): nearest neighbour.
    """
    weights = [0.5**i for i in range(len(heads))]
    losses = []
    for logits in heads:
        x, y, z = (fine // coarse for fine, coarse in zip(targets.shape[2:], logits.shape[2:], strict=True))
        losses.append(loss(logits.to(targets.dtype), targets[:, :, ::x, ::y, ::z]))  # never in 16 bits
    total = sum((w * loss for w, loss in zip(weights, losses, strict=True)), torch.zeros((), device=targets.device))
    return total / sum(weights)
