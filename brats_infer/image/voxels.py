"""The part of a volume in which there is something."""

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
EVERYTHING: Box = (slice(None), slice(None), slice(None))


def bounding_box(mask: NDArray[np.bool_], margin: int = 0) -> Box:
    """The smallest box around what is True in (X, Y, Z), wider by `margin` voxels as far as the array goes.

    An empty box where nothing is True.
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
