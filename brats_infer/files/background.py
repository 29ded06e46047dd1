"""The background of an image, which some programs store as another value than 0."""

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

FEW = 10  # voxels


def zero_background(data: NDArray[Any]) -> tuple[NDArray[Any], float | None]:
    """((X, Y, Z) with background 0, the value that it had), or (`data` itself, None) if that is 0 or not told.

    The background is the value of more than half of the voxels on the grid's six faces. Where the brain has values of
    that sign, up to `FEW` connected voxels that touch no face are brain and stay. A constant image stays as it is.
    """
    faces = _faces(data)
    if 2 * np.count_nonzero(faces == 0) >= faces.size:
        return data, None
    value = data.dtype.type(np.median(faces))  # the value of more than half, if there is one
    background = data == value
    if value == 0 or 2 * np.count_nonzero(faces == value) <= faces.size or background.all():
        return data, None
    if value > 0 or np.min(data, initial=0, where=~background) < 0:
        components = cc3d.connected_components(background, connectivity=6)
        kept = np.bincount(components.ravel(order="K")) > FEW
        kept[_faces(components)] = True
        background &= kept[components]
    return np.where(background, 0, data), float(value)


def _faces(data: NDArray[Any]) -> NDArray[Any]:
    """(N,): the voxels of the six faces of (X, Y, Z); an edge counts twice."""
    return np.concatenate([np.moveaxis(data, axis, 0)[end].ravel() for axis in range(3) for end in (0, -1)])
