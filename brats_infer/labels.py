"""Probabilities of regions <-> region masks <-> labels (paper 2.5)."""

import numpy as np
from numpy.typing import NDArray

from brats_infer.tasks import Task


def labels_from_probabilities(probabilities: NDArray[np.float32], task: Task) -> NDArray[np.uint8]:
    """(R, X, Y, Z) in 0..1, regions in the task's order -> labels (X, Y, Z).

    From the outermost region inwards a voxel goes on as long as it reaches the region's threshold, and takes the
    label of the last region reached: WT < 0.45 -> 0; else TC < 0.40 -> 2; else ET < 0.45 -> 1; else 3.
    Raises ValueError on NaN, which would read as "below every threshold" and make a plausible empty map.
    """
    if np.isnan(probabilities).any():
        raise ValueError("the network returned NaN")
    labels = np.zeros(probabilities.shape[1:], np.uint8)
    inside = np.ones(labels.shape, bool)
    for region, probability in zip(task.regions, probabilities, strict=True):
        inside &= probability >= np.float32(region.threshold)
        labels[inside] = region.label
    return labels


def regions_from_labels(labels: NDArray[np.uint8], task: Task) -> NDArray[np.bool_]:
    """(X, Y, Z) -> (R, X, Y, Z), one mask a region, in the task's order."""
    return np.stack([np.isin(labels, task.region_labels(region)) for region in task.regions])
