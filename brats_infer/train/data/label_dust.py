"""Specks in the training labels (paper 2.4)."""

import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.lesionwise import dilated_lesions
from brats_infer.tasks import Task


def without_label_dust(regions: NDArray[np.bool_], task: Task) -> NDArray[np.bool_]:
    """(R, X, Y, Z) at 1 mm without the lesions of a region's dust size or less.

    Lesions are those of the official evaluation: components whose dilations overlap are one. A lesion inside a small
    one is smaller still, so the regions stay nested where no region's dust is larger than that of one inside it.
    """
    iterations = task.metrics.dilation_iterations
    kept = [
        large_lesions(mask, iterations, region.dust_mm3) for region, mask in zip(task.regions, regions, strict=True)
    ]
    return np.stack(kept)


def large_lesions(mask: NDArray[np.bool_], iterations: int, limit: int) -> NDArray[np.bool_]:
    """The mask (X, Y, Z) without its lesions of `limit` voxels or fewer, the dilation not counted."""
    lesions = dilated_lesions(mask, iterations) * mask
    large = np.bincount(lesions.ravel()) > limit
    large[0] = False
    kept: NDArray[np.bool_] = large[lesions]
    return kept
