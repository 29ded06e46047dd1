"""Volumes in ml, of labels and of regions."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from brats_infer.tasks import LABEL_NAMES, Task


def label_volumes(labels: NDArray[np.uint8], task: Task, voxel_mm3: float) -> dict[str, float]:
    """{label's name: ml} of a map (X, Y, Z)."""
    return {LABEL_NAMES[n]: round(int(np.count_nonzero(labels == n)) * voxel_mm3 / 1000, 3) for n in task.labels}


def region_volumes(millilitres: Mapping[str, float], task: Task) -> dict[str, float]:
    """{region's name: ml}, of the volumes of the labels."""
    return {
        region.name: round(sum(millilitres[LABEL_NAMES[n]] for n in task.region_labels(region)), 3)
        for region in task.regions
    }
