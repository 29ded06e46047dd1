"""The intensities and the grid that the brain member expects."""

import numpy as np
from numpy.typing import NDArray

SPACING = 2.0  # mm
LOW, HIGH = 1.0, 99.0  # percentiles
CEILING = 2.0


def scaled(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(X, Y, Z): percentile 1 of the voxels that are not 0 becomes 0, percentile 99 becomes 1; cut to 0..2."""
    inside = image[image != 0]
    if not len(inside):
        return np.zeros_like(image)
    low, high = np.percentile(inside, [LOW, HIGH])
    unit = (image - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return np.where(image != 0, np.clip(unit, 0, CEILING), np.float32(0))
