"""Labels <-> masks of their regions."""

import numpy as np
from numpy.typing import NDArray

from brats_infer.image.voxels import within
from brats_infer.tasks import Task


def regions_from_labels(labels: NDArray[np.uint8], task: Task) -> NDArray[np.bool_]:
    """(X, Y, Z) -> (R, X, Y, Z), one mask a region, in the task's order."""
    return np.stack([within(labels, region.labels) for region in task.regions])
