"""Connected components of a mask, by their size."""

import cc3d
import numpy as np
from numpy.typing import NDArray


def without_dust(mask: NDArray[np.bool_], limit: int, connectivity: int) -> NDArray[np.bool_]:
    """A mask (X, Y, Z) without its components of `limit` voxels or fewer. Returns a new array.

    As `cc3d.dust`, but faster where there are thousands, and other threads can run for most of its time.
    """
    if limit < 1 or not mask.any():
        return mask.copy()
    components = cc3d.connected_components(mask, connectivity=connectivity)
    kept = np.bincount(components[mask]) > limit
    if kept[1:].all():
        return mask.copy()
    large: NDArray[np.bool_] = kept[components]
    return large
