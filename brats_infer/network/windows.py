"""Runs a network on a case: on all of it or in windows, near the tumor, mirrored, on a coarser grid."""

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from brats_infer.image.voxels import EVERYTHING, Box, bounding_box, without_dust
from model.config import UNetConfig

GAUSSIAN_SIGMA = 0.125  # of the window's side, as in nnU-Net and MONAI
GAUSSIAN_FLOOR = 1e-3
OVERLAP = 0.5
POSSIBLE = 0.3  # least probability of the outermost region where finer networks look closer
NEAR = 8  # voxels around the possible tumor
CLOSER_SIDE = 96  # voxels at least: in a smaller box, instance norm sees little but tumor

Predictor = Callable[[Tensor], Tensor]


class Engine(Protocol):
    """A network that is ready to compute."""

    @property
    def config(self) -> UNetConfig: ...

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, X, Y, Z) float32 -> sigmoids (B, R, X, Y, Z) float32, on the batch's device.

        With `config.logits`: logits of all outputs.
        The batch has any size: the end of each axis is padded with background to a size that fits the network.
        The result is the caller's own memory.
        """
        ...


class Tiling(NamedTuple):
    """How windows lie, and how they are weighted."""

    starts: Callable[[int, int, float], Sequence[int]]
    """(side of the input, side of the window, overlap) -> first voxels of the windows along an axis."""
    weights: Callable[[tuple[int, int, int], torch.device], Tensor]
    """(window, device) -> weights (X_w, Y_w, Z_w)."""


def predict_member(
    engine: Engine,
    x: Tensor,
    window: tuple[int, int, int] | None,
    flips: bool,
    mirrored_axes: Sequence[int] = (0, 1, 2),
) -> Tensor:
    """(C, X, Y, Z) -> probabilities (R, X, Y, Z), float32 on the input's device; the engine may be on another one.

    `window` None: the whole input in one pass. `flips`: the mean over the mirror images along `mirrored_axes`, eight
    for all three. NaN if fp16 overflows. Of an engine with logits: logits of all outputs.
    """
    spacing = engine.config.spacing
    axes = [1 + axis for axis in mirrored_axes] if flips else []
    found = _predict(engine, coarser(x, spacing) if spacing > 1 else x, window, axes)
    return finer(found, spacing, x.shape[1:]) if spacing > 1 else found


def closer_box(possible: NDArray[np.bool_], step: int, dust: int) -> Box:
    """The box for networks on finer grids: around the voxels that coarser networks hold `possible` (X, Y, Z).

    Components of up to `dust` voxels of 1 mm count only if there are no larger ones, as dust is removed later. Each
    side is a multiple of `step`, or the whole length. The whole grid if no voxel is possible. Writes to `possible`.
    """
    if not possible.any():
        return EVERYTHING
    view = possible[bounding_box(possible)]
    large = without_dust(view, dust, 26)
    if large.any():
        view[:] = large
    extents = bounding_box(possible, NEAR)
    x, y, z = (_widened(extent, size, step) for extent, size in zip(extents, possible.shape, strict=True))
    return x, y, z


def _widened(extent: slice, size: int, step: int) -> slice:
    """Widens both sides: to a multiple of `step` and at least `CLOSER_SIDE`, or to the whole 0..size."""
    side = min(size, -(-max(extent.stop - extent.start, CLOSER_SIDE) // step) * step)
    start = min(max(0, (extent.start + extent.stop - side) // 2), size - side)
    return slice(start, start + side)


def coarser(x: Tensor, spacing: int) -> Tensor:
    """(C, X, Y, Z) -> means of cubes of `spacing` voxels a side; cubes past the end are filled with background."""
    if min(x.shape[1:]) < spacing:  # pooling refuses this
        x = functional.pad(x, [p for n in reversed(x.shape[1:]) for p in (0, max(0, spacing - n))])
    return functional.avg_pool3d(x[None], spacing, ceil_mode=True, divisor_override=spacing**3)[0]


def finer(x: Tensor, spacing: int, shape: Sequence[int]) -> Tensor:
    """Back from `coarser`: (C, x, y, z) interpolated to (C, X, Y, Z)."""
    wide = functional.interpolate(x[None], scale_factor=spacing, mode="trilinear", align_corners=False)[0]
    return wide[:, : shape[0], : shape[1], : shape[2]]


def _predict(engine: Engine, x: Tensor, window: tuple[int, int, int] | None, mirrored: Sequence[int]) -> Tensor:
    """As `predict_member`, on the network's own grid."""
    axes = [each for n in range(len(mirrored) + 1) for each in itertools.combinations(mirrored, n)]

    def probabilities(batch: Tensor) -> Tensor:  # (B, C, X, Y, Z) -> (B, R, X, Y, Z)
        found = engine(batch)
        return nested(found) if engine.config.disjoint else found

    total: Tensor | None = None
    for flipped in axes:
        source = x.flip(flipped) if flipped else x
        out = probabilities(source[None])[0] if window is None else sliding_window(source, probabilities, window)
        total = out if total is None else total.add_(out.flip(flipped))
    assert total is not None
    return total.div_(len(axes)) if len(axes) > 1 else total


def nested(disjoint: Tensor) -> Tensor:
    """Probabilities of disjoint labels (B, R, X, Y, Z) -> of nested regions: the sum of own and inner labels.

    Disjoint labels exclude each other, so their probabilities add up. Sums of independent sigmoids may exceed 1.
    """
    return disjoint.flip(1).cumsum(1).flip(1).clamp_(max=1)


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """First voxels of overlapping windows along an axis; the last window is moved back inside."""
    step = max(1, int(side * (1 - overlap)))
    count = -(-(size - side) // step) + 1
    return [min(i * step, size - side) for i in range(count)]


@lru_cache(maxsize=4)
def gaussian_weights(window: tuple[int, int, int], device: torch.device) -> Tensor:
    """(X_w, Y_w, Z_w): a Gaussian of 1/8 of the side, 1 at the centre, at least 1e-3."""
    weights = torch.ones((), device=device)
    for side in window:
        offset = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(offset**2) / (2 * (GAUSSIAN_SIGMA * side) ** 2))
    return torch.maximum(weights, weights.min().clamp(min=GAUSSIAN_FLOOR))  # without waiting for a GPU


MONAI = Tiling(_starts, gaussian_weights)
"""Placement and weights of MONAI's `sliding_window_inference(mode="gaussian")`, which is the test's oracle."""


def sliding_window(
    x: Tensor,
    predictor: Predictor,
    window: tuple[int, int, int],
    overlap: float = OVERLAP,
    tiling: Tiling = MONAI,
) -> Tensor:
    """(C, X, Y, Z) -> (R, X, Y, Z): the Gaussian-weighted mean over overlapping windows.

    An input smaller than the window is padded with background on both sides.
    """
    padding = [max(0, w - n) for n, w in zip(x.shape[1:], window, strict=True)]
    before = [p // 2 for p in padding]
    sides = [p for b, extra in zip(reversed(before), reversed(padding), strict=True) for p in (b, extra - b)]
    padded = functional.pad(x, sides) if any(sides) else x
    weights = tiling.weights(window, x.device)  # (X_w, Y_w, Z_w)
    total: Tensor | None = None
    norm = torch.zeros(padded.shape[1:], device=x.device)
    starts = [tiling.starts(size, side, overlap) for size, side in zip(padded.shape[1:], window, strict=True)]
    for corner in itertools.product(*starts):
        box = tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
        found = predictor(padded[:, *box][None])[0]
        if total is None:
            total = torch.zeros((len(found), *padded.shape[1:]), device=x.device)
        total[:, *box].addcmul_(found, weights)
        norm[box] += weights
    assert total is not None
    inside = tuple(slice(b, b + n) for b, n in zip(before, x.shape[1:], strict=True))
    return total.div_(norm)[:, *inside]
