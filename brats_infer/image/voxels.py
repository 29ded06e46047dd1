"""Voxel masks: their bounding box, their small components, and masks from labels."""

from collections.abc import Iterable
from typing import Any

import cc3d
import fill_voids
import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
EVERYTHING: Box = (slice(None), slice(None), slice(None))


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> Box:
    """The smallest box around the True voxels of (X, Y, Z), widened by `margin` voxels within the array.

    An empty box if no voxel is True.
    """
    plane = np.any(mask, axis=2)
    x, y = (_extent(np.any(plane, axis=axis)) for axis in (1, 0))
    z = _extent(np.any(mask[x, y], axis=(0, 1)))
    x, y, z = (
        slice(max(side.start - margin, 0), min(side.stop + margin, size)) if side.stop else side
        for side, size in zip((x, y, z), mask.shape, strict=True)
    )
    return x, y, z


def _extent(line: NDArray[np.bool_]) -> slice:
    """From the first to the last True; 0 to 0 if there is none."""
    inside = np.flatnonzero(line)
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def without_dust(mask: NDArray[np.bool_], limit: int, connectivity: int) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) without its components of `limit` voxels or fewer. Returns a new array.

    As `cc3d.dust`, but faster with thousands of components, and without the GIL for most of its time.
    """
    if limit < 1 or not mask.any():
        return mask.copy()
    components = cc3d.connected_components(mask, connectivity=connectivity)
    kept = np.bincount(components[mask]) > limit
    if kept[1:].all():
        return mask.copy()
    large: NDArray[np.bool_] = kept[components]
    return large


def filled(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) with its cavities filled. A cavity has no 6-connected way out."""
    padded = np.pad(region, 1)  # without padding, a notch at the array's edge would be filled
    whole = fill_voids.fill(padded.T, in_place=True).T  # seven times as fast in Fortran order
    inside: NDArray[np.bool_] = whole[1:-1, 1:-1, 1:-1].astype(bool)
    return inside


def within(labels: NDArray[np.integer[Any]], wanted: Iterable[int]) -> NDArray[np.bool_]:
    """True where (X, Y, Z) has one of a few `wanted` labels; six times as fast as `np.isin`."""
    mask = np.zeros_like(labels, bool)
    for label in wanted:
        mask |= labels == label
    return mask
