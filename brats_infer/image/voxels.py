"""Voxel masks: bounding box, components, cavities, dilation, and masks from labels."""

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
    plane = np.any(mask, axis=0)  # the first axis is the fastest to reduce
    y, z = (_extent(np.any(plane, axis=axis)) for axis in (1, 0))
    x = _extent(np.any(mask[:, y, z], axis=(1, 2)))
    x, y, z = (
        slice(max(side.start - margin, 0), min(side.stop + margin, size)) if side.stop else side
        for side, size in zip((x, y, z), mask.shape, strict=True)
    )
    return x, y, z


def _extent(line: NDArray[np.bool_]) -> slice:
    """From the first to the last True; 0 to 0 if there is none."""
    inside = np.flatnonzero(line)
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def components_of(mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.unsignedinteger]:
    """The components of a mask (X, Y, Z), numbered 1, 2, …; 6, 18 or 26 neighbours connect. 0 is outside.

    For 26 neighbours of a mask, cc3d 4.1.1 has room for voxels / 4 + 1 pieces. A mask that is one voxel thick, or has
    3x3x3 voxels, can hold more, and cc3d raises. Its slower code for labels has room for all.
    """
    small = 1 in mask.shape or mask.size <= 27
    components: NDArray[np.unsignedinteger] = cc3d.connected_components(
        mask.view(np.uint8) if small else mask, connectivity=connectivity
    )
    return components


def without_dust(mask: NDArray[np.bool_], limit: int, connectivity: int) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) without its components of `limit` voxels or fewer. Returns a new array.

    As `cc3d.dust`, but faster with thousands of components, and without the GIL for most of its time.
    """
    if limit < 1 or not mask.any():
        return mask.copy()
    components = components_of(mask, connectivity)
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


def dilate(mask: NDArray[np.bool_], iterations: int) -> NDArray[np.bool_]:
    """Dilates (X, Y, Z) by the 18 neighbours, `iterations` times. Outside of the array there is no mask.

    The 18 neighbours are the union of three squares of 3x3 voxels, one in each plane of two axes. Eight voxels of the
    last axis share a byte, which takes a quarter of the time.
    """
    dilated = np.zeros_like(mask)
    box = bounding_box(mask, iterations)
    inside = np.packbits(mask[box], axis=2)
    for _ in range(iterations):
        along_x, along_y = _widen(inside, 0), _widen(inside, 1)
        square = _widen(along_x, 1)
        along_x |= along_y
        square |= _widen_last(along_x)
        inside = square
    dilated[box] = np.unpackbits(inside, axis=2, count=mask[box].shape[2])
    return dilated


def _widen(packed: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """A mask with eight voxels a byte, and its two neighbours along one of the first axes."""
    wide = packed.copy()
    to, by = np.moveaxis(wide, axis, 0), np.moveaxis(packed, axis, 0)
    to[1:] |= by[:-1]
    to[:-1] |= by[1:]
    return wide


def _widen_last(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask with eight voxels a byte, the first one in the highest bit, and its two neighbours along the last axis.

    It may grow into the unused bits of the last byte. From there it reaches no voxel that it does not reach inside.
    """
    wide: NDArray[np.uint8] = packed | (packed >> np.uint8(1)) | (packed << np.uint8(1))
    wide[..., 1:] |= packed[..., :-1] << np.uint8(7)
    wide[..., :-1] |= packed[..., 1:] >> np.uint8(7)
    return wide
