"""A small head of our own in FreeSurfer's codes: what the tests grow tumors in."""

import numpy as np
from numpy.typing import NDArray

SIDE = 88


def head_codes(side: int = SIDE) -> NDArray[np.int16]:
    """(side, side, side): white matter in a shell of cortex in a shell of fluid, two ventricles, and a skull."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    codes = np.select([radius < 0.62, radius < 0.74, radius < 0.82, radius < 0.95], [2, 3, 24, 507], 0)
    ventricles = ((np.abs(grid[0]) - 0.2) / 0.09) ** 2 + (grid[1] / 0.3) ** 2 + (grid[2] / 0.2) ** 2 < 1
    codes[ventricles] = 4
    return codes.astype(np.int16)
