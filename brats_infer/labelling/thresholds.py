"""From the regions' probabilities to labels (paper 2.5)."""

import torch
from torch import Tensor

from brats_infer.network.devices import CPU
from brats_infer.tasks import Task

SLAB = 32  # planes: of a whole brain, what lies between would be fresh memory, slow to touch; a GPU has it at once


def labels_from_probabilities(probabilities: Tensor, task: Task) -> Tensor:
    """(R, X, Y, Z) in 0..1, regions in the task's order -> uint8 labels (X, Y, Z), on the same device.

    From the outermost region inwards a voxel goes on as long as it reaches the region's threshold, and takes the
    label of the last region reached: WT < 0.45 -> 0; else TC < 0.40 -> 2; else ET < 0.45 -> 1; else 3.
    Raises ValueError on NaN, which would read as "below every threshold" and make a plausible empty map.
    """
    labels = torch.empty(probabilities.shape[1:], dtype=torch.uint8, device=probabilities.device)
    thickness = SLAB if probabilities.device == CPU else max(1, len(labels))
    for part, out in zip(torch.split(probabilities, thickness, dim=1), torch.split(labels, thickness), strict=True):
        if bool(part.sum().isnan()):
            raise ValueError("the network returned NaN")
        _label(part, task, out.view(torch.int8))
    return labels


def _label(probabilities: Tensor, task: Task, labels: Tensor) -> None:
    """Writes labels (X, Y, Z)."""
    labels.zero_()
    inside = torch.ones_like(labels, dtype=torch.bool)
    reached = torch.empty_like(inside)
    outer = 0
    for region, probability in zip(task.regions, probabilities, strict=True):
        inside &= torch.ge(probability, region.threshold, out=reached)
        labels.add_(inside.view(torch.int8), alpha=region.label - outer)
        outer = region.label
