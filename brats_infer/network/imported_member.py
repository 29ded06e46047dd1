"""An imported member on a case: logits in windows as nnU-Net v2 places them, and probabilities from logits.

Source: `sliding_window_prediction.py` and `predict_from_raw_data.py` of nnunetv2 2.8.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from brats_infer.image.voxels import EVERYTHING, bounding_box
from brats_infer.network.windows import GAUSSIAN_SIGMA, Engine, Tiling, nested, predict_member, sliding_window
from model.config import UNetConfig
from model.source import Source

NOTHING = -1e4
"""The logit of a region or label outside the brain's box; its probability is exactly 0."""


def predict_logits(
    engine: Engine, x: Tensor, source: Source, window: tuple[int, int, int] | None, flips: bool
) -> Tensor:
    """(C, X, Y, Z) -> logits of all outputs (O, X, Y, Z), float32, averaged as the source averages them.

    With `source.nnunet_windows` the last channel is the brain, which the network does not see.
    """
    if not source.nnunet_windows:
        return predict_member(engine, x, window, flips, source.mirrored_axes)
    turned = [1 + axis for axis in source.reversed_axes]
    x = x.flip(turned) if turned else x
    brain = (x[-1] > 0).cpu().numpy()
    box = bounding_box(brain) if brain.any() else EVERYTHING
    mirrored = [2 + axis for axis in source.mirrored_axes] if flips else []

    def logits(batch: Tensor) -> Tensor:  # (1, C, x, y, z) -> (1, O, x, y, z)
        return _mirrored(engine, batch, mirrored)

    inside = x[:-1][:, *box]
    found = logits(inside[None])[0] if window is None else sliding_window(inside, logits, window, tiling=NNUNET)
    whole = found.new_full((len(found), *x.shape[1:]), NOTHING)
    if engine.config.background:
        whole[0] = 0
    whole[:, *box] = found
    return whole.flip(turned) if turned else whole


def region_probabilities(logits: Tensor, config: UNetConfig) -> Tensor:
    """Logits (O, X, Y, Z) -> probabilities of the task's nested regions (R, X, Y, Z)."""
    if not config.background:
        return torch.sigmoid(logits)
    return nested(torch.softmax(logits, dim=0)[1:][None])[0]


def _mirrored(engine: Engine, batch: Tensor, axes: Sequence[int]) -> Tensor:
    """The mean over a batch and its mirror images along all combinations of axes."""
    total = engine(batch)
    combinations = [each for n in range(1, len(axes) + 1) for each in itertools.combinations(axes, n)]
    for flipped in combinations:
        total.add_(engine(batch.flip(flipped)).flip(flipped))
    return total.div_(1 + len(combinations)) if combinations else total


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """First voxels of the windows along an axis: evenly spaced, with at least that overlap."""
    steps = math.ceil((size - side) / (side * (1 - overlap)))
    return [round((size - side) / steps * i) for i in range(steps + 1)] if steps else [0]


@lru_cache(maxsize=4)
def _weights(window: tuple[int, int, int], device: torch.device) -> Tensor:
    """(X_w, Y_w, Z_w): a Gaussian around the voxel after the middle, in steps of fp16 as in nnU-Net.

    scipy's filter ends after 4 standard deviations. Beyond, and where fp16 is 0, the least weight holds.
    """
    weights = torch.full((), 10.0, dtype=torch.float64)
    for side in window:
        offset = torch.arange(side, dtype=torch.float64) - side // 2
        sigma = GAUSSIAN_SIGMA * side
        line = torch.exp(-(offset**2) / (2 * sigma**2)) * (offset.abs() <= int(4 * sigma + 0.5))
        weights = weights[..., None] * line
    rounded = weights.half().float()
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded.to(device)


NNUNET = Tiling(_starts, _weights)
