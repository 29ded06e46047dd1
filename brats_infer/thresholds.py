"""From the regions' probabilities to labels (paper 2.5)."""

import torch
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
