"""The normalised surface Dice (NSD) of 2024: surface voxels, not weighted by area.

A surface voxel has one of its 6 neighbours outside of the mask. The definition is that of the official programs, which
differs from DeepMind's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.lesionwise import Labels
from brats_infer.evaluate.surface import Floats, Mask, Spacing

TOLERANCES = (0.5, 1.0)
"""mm"""
EPSILON = 1e-8
"""In the official denominator: a perfect surface has a little less than 1."""


@dataclass(frozen=True)
class SurfaceVoxels:
    """The surface voxels of numbered lesions, which do not touch each other."""

    numbers: NDArray[np.unsignedinteger]
    """Flat, of a padded volume: the lesion of each surface voxel, else 0."""
    at: NDArray[np.intp]
    """(N,): the places of the surface voxels in `numbers`."""
    owners: NDArray[np.unsignedinteger]
    """(N,): the lesion of each."""

    def of(self, chosen: Mask) -> NDArray[np.intp]:
        """The places of the lesions whose number is True in `chosen` (1 + lesions,)."""
        at: NDArray[np.intp] = self.at[chosen[self.owners]]
        return at


class SurfaceDice:
    """Computes the NSD between lesions of a reference and of a prediction on one grid."""

    def __init__(self, prediction: Labels, reference: Labels, spacing: Spacing) -> None:
        """`prediction` and `reference` (X, Y, Z) hold the numbers of lesions, `spacing` is in mm."""
        reach = [max(1, int(max(TOLERANCES) / mm)) for mm in spacing]
        shape = [side + 2 * n for side, n in zip(prediction.shape, reach, strict=True)]
        strides = np.array((shape[1] * shape[2], shape[2], 1))
        steps = np.array(list(product(*(range(-n, n + 1) for n in reach))))
        lengths = np.sqrt(((steps * np.array(spacing)) ** 2).sum(axis=1))
        self._steps = [
            (length, step)
            for length, step in sorted(zip(lengths.tolist(), (steps @ strides).tolist(), strict=True))
            if length <= max(TOLERANCES)
        ]
        self._prediction, self._reference = (_surface_voxels(n, reach) for n in (prediction, reference))

    def between(self, predicted: Mask, true: Mask) -> tuple[float, ...]:
        """The NSD at each of `TOLERANCES` of chosen lesions, by number: (1 + predicted,) and (1 + true,), 0 False.

        No lesion on one side: 0; on both: 1.
        """
        own, other = self._prediction.of(predicted), self._reference.of(true)
        if len(own) == 0 or len(other) == 0:
            return (float(len(own) == len(other)),) * len(TOLERANCES)
        there = _distances(own, self._reference, true, self._steps)
        back = _distances(other, self._prediction, predicted, self._steps)
        return tuple(_nsd(float((there <= mm).mean()), float((back <= mm).mean())) for mm in TOLERANCES)


def _nsd(p: float, q: float) -> float:
    """From the shares of the two surfaces that lie within the tolerance."""
    return (p + q) / ((p + q) + (1 - p) + (1 - q) + EPSILON)


def _surface_voxels(numbers: Labels, reach: Sequence[int]) -> SurfaceVoxels:
    """The surface voxels of numbers (X, Y, Z), padded by `reach` voxels on each side of each axis, or by one."""
    padded = np.pad(numbers, [(n, n) for n in reach])
    mask = padded != 0
    inner = mask[1:-1, 1:-1, 1:-1].copy()
    for before, after in ((slice(0, -2), slice(1, -1)), (slice(2, None), slice(1, -1))):
        inner &= mask[before, after, after]
        inner &= mask[after, before, after]
        inner &= mask[after, after, before]
    mask[1:-1, 1:-1, 1:-1] &= ~inner
    padded *= mask
    at = np.flatnonzero(mask)
    return SurfaceVoxels(padded.ravel(), at, padded.ravel()[at])


def _distances(at: NDArray[np.intp], target: SurfaceVoxels, chosen: Mask, steps: Sequence[tuple[float, int]]) -> Floats:
    """(N,) in mm: from places to the nearest surface voxel of the chosen lesions; infinite beyond all steps."""
    distances = np.full(len(at), np.inf)
    left = np.arange(len(at))
    for length, step in steps:
        hit = chosen[target.numbers[at[left] + step]]
        distances[left[hit]] = length
        left = left[~hit]
    return distances
