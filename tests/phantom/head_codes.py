"""A made-up label map of a head with SynthSeg's codes."""

import numpy as np
from numpy.typing import NDArray

SHELLS = ((90, 511), (86, 507), (76, 515), (70, 24), (64, 3), (54, 2), (12, 4))
"""(radius in mm, code), from the skin to the ventricles."""


def codes_of_a_head() -> NDArray[np.int64]:
    """(96, 96, 96) codes: nested balls."""
    x, y, z = np.ogrid[:96, :96, :96]
    distance = np.sqrt(((x - 48) * 1.0) ** 2 + (y - 48) ** 2 + (z - 48) ** 2) * 2
    codes = np.zeros(distance.shape, np.int64)
    for radius, code in SHELLS:
        codes[distance < radius] = code
    return codes
