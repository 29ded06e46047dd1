"""Probabilities of regions <-> region masks <-> labels (paper 2.5)."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.tasks import Task


def labels_from_probabilities(probabilities: Tensor, task: Task) -> Tensor:
    """(R, X, Y, Z) in 0..1, regions in the task's order -> uint8 labels (X, Y, Z), on the same device.

    From the outermost region inwards a voxel goes on as long as it reaches the region's threshold, and takes the
    label of the last region reached: WT < 0.45 -> 0; else TC < 0.40 -> 2; else ET < 0.45 -> 1; else 3.
    Raises ValueError on NaN, which would read as "below every threshold" and make a plausible empty map.
    """
    if bool(probabilities.sum().isnan()):
        raise ValueError("the network returned NaN")
    labels = torch.zeros(probabilities.shape[1:], dtype=torch.int8, device=probabilities.device)
    inside = torch.ones_like(labels, dtype=torch.bool)
    reached = torch.empty_like(inside)
    outer = 0
    for region, probability in zip(task.regions, probabilities, strict=True):
        inside &= torch.ge(probability, region.threshold, out=reached)
        labels.add_(inside.view(torch.int8), alpha=region.label - outer)
        outer = region.label
    return labels.view(torch.uint8)


def regions_from_labels(labels: NDArray[np.uint8], task: Task) -> NDArray[np.bool_]:
    """(X, Y, Z) -> (R, X, Y, Z), one mask a region, in the task's order."""
    return np.stack([within(labels, task.region_labels(region)) for region in task.regions])


def within(labels: NDArray[np.integer[Any]], wanted: Iterable[int]) -> NDArray[np.bool_]:
    """Where (X, Y, Z) has one of a few labels; six times as fast as `np.isin`."""
    mask = np.zeros_like(labels, bool)
    for label in wanted:
        mask |= labels == label
    return mask
