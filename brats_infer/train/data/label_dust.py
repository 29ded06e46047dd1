"""Dust, small specks, in the training labels (paper 2.4)."""

import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.lesionwise import dilated_lesions
from brats_infer.tasks import Task


def without_label_dust(regions: NDArray[np.bool_], task: Task) -> NDArray[np.bool_]:
    """(R, X, Y, Z) at 1 mm without the lesions of at most the region's dust size.

    A lesion is that of the official evaluation: components whose dilations overlap are one lesion. The regions stay
    nested if no region has a larger dust size than a region inside it: an inner lesion is the smaller one.
    """
    iterations = task.metrics.dilation_iterations
    kept = [
        large_lesions(mask, iterations, region.dust_mm3) for region, mask in zip(task.regions, regions, strict=True)
    ]
    return np.stack(kept)


def large_lesions(mask: NDArray[np.bool_], iterations: int, limit: int) -> NDArray[np.bool_]:
    """The mask (X, Y, Z) without lesions of `limit` voxels or fewer; dilated voxels do not count."""
    lesions = dilated_lesions(mask, iterations) * mask
    large = np.bincount(lesions.ravel()) > limit
    large[0] = False
    kept: NDArray[np.bool_] = large[lesions]
    return kept
