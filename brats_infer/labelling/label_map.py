"""From the regions' probabilities on a crop to the label map on the input's own grid (paper 2.5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.image.crop import Restore, restore_labels, restore_probabilities
from brats_infer.image.voxels import bounding_box
from brats_infer.labelling.postprocess import clean_up, keep_brain
from brats_infer.settings import PostProcess, Settings
from brats_infer.tasks import Rule, Task

SLAB = 32  # planes at a time: temporaries for a whole brain need new memory pages, which is slow


@dataclass(frozen=True)
class Found:
    """The networks' result for a crop, on the host."""

    labels: NDArray[np.uint8]
    """(x, y, z), from the regions' thresholds."""
    probabilities: NDArray[np.float32]
    """(R, x, y, z)"""
    complete: bool
    """False: the probabilities are 0 outside the box of the labels."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on the computation."""


def labels_from_probabilities(probabilities: Tensor, task: Task, slab: int = SLAB) -> Tensor:
    """(R, X, Y, Z) in 0..1, regions in the task's order -> uint8 labels (X, Y, Z), on the same device.

    A voxel reaches a region if it has the region's threshold and reaches the region that holds it. It takes the label
    of the last region that it reaches: WT < 0.45 -> 0; else TC < 0.40 -> 2; else ET < 0.45 -> 1; else 3.
    That is the rule `INWARDS`; the task may have another rule.
    Raises ValueError on NaN, which is below every threshold and would give a plausible empty map.
    """
    labels = torch.empty(probabilities.shape[1:], dtype=torch.uint8, device=probabilities.device)
    for part, out in zip(torch.split(probabilities, slab, dim=1), torch.split(labels, slab), strict=True):
        if bool(part.sum().isnan()):
            raise ValueError("the network returned NaN")
        LABELLED[task.rule](part, task, out.view(torch.int8))
    return labels


def _label(probabilities: Tensor, task: Task, labels: Tensor) -> None:
    """Writes the labels of probabilities (R, X, Y, Z) into `labels` (X, Y, Z)."""
    labels.zero_()
    reached: list[Tensor] = []
    for region, outer, probability in zip(task.regions, task.outer, probabilities, strict=True):
        inside = probability >= region.threshold
        if outer is not None:
            inside &= reached[outer]
        labels.masked_fill_(inside, region.label)
        reached.append(inside)


def _label_innermost(probabilities: Tensor, task: Task, labels: Tensor) -> None:
    """As nnU-Net writes regions, the outermost first: each one over the regions before it."""
    labels.zero_()
    for region, probability in zip(task.regions, probabilities, strict=True):
        labels.masked_fill_(probability > region.threshold, region.label)


def _label_most_probable(probabilities: Tensor, task: Task, labels: Tensor) -> None:
    """The most probable of background and labels. A label has what its region has beyond the next inner region.

    In a tie the outer one wins, as the first one does in nnU-Net.
    """
    labels.zero_()
    most = 1 - probabilities[0]
    for index, region in enumerate(task.regions):
        own = (
            probabilities[index] - probabilities[index + 1] if index + 1 < len(probabilities) else probabilities[index]
        )
        labels.masked_fill_(own > most, region.label)
        most = torch.maximum(most, own)


LABELLED = {Rule.INWARDS: _label, Rule.INNERMOST: _label_innermost, Rule.ARGMAX: _label_most_probable}
"""{rule: the function that writes labels (X, Y, Z) of probabilities (R, X, Y, Z)}."""


def found_in(probabilities: Tensor, task: Task, complete: bool) -> Found:
    """Applies the thresholds to probabilities (R, x, y, z) on the CPU.

    `complete` keeps all probabilities; otherwise only the labels' box is kept, to save memory.
    Raises ValueError on NaN.
    """
    labels = labels_from_probabilities(probabilities, task).numpy()
    if complete:
        return Found(labels, probabilities.contiguous().numpy(), complete)
    kept = np.zeros(probabilities.shape, np.float32)  # unwritten pages take no memory
    box = bounding_box(labels > 0)
    kept[:, *box] = probabilities[:, *box].numpy()
    return Found(labels, kept, complete)


def inside_brain(found: Found, brain: NDArray[np.bool_]) -> Found:
    """Removes labels outside the brain (x, y, z), and the probabilities there if they are complete."""
    kept = keep_brain(found.probabilities, brain) if found.complete else found.probabilities
    return replace(found, labels=keep_brain(found.labels, brain), probabilities=kept)


def label_map(found: Found, restore: Restore, task: Task, settings: Settings) -> NDArray[np.uint8]:
    """The labels (X, Y, Z) on the input's grid, post-processed if task and settings say so."""
    voxel_mm3 = restore.geometry.voxel_mm3
    cleans = is_post_processed(task, settings)
    if not restore.resampled:  # on the crop alone: outside is background
        labels = found.labels
        if cleans:
            labels = clean_up(labels, found.probabilities, task, voxel_mm3, settings)
        return restore_labels(labels, restore)
    maps = probability_maps(found, restore)  # labels cannot be interpolated
    labels = labels_from_probabilities(torch.from_numpy(maps), task).numpy()
    return clean_up(labels, maps, task, voxel_mm3, settings) if cleans else labels


def is_post_processed(task: Task, settings: Settings) -> bool:
    """Whether label maps of a task are post-processed, and kept inside the brain."""
    if settings.post_process == PostProcess.AUTO:
        return task.post_processed
    return settings.post_process == PostProcess.ON


def probability_maps(found: Found, restore: Restore) -> NDArray[np.float32]:
    """(R, X, Y, Z) on the input's grid. Raises ValueError for incomplete probabilities."""
    if not found.complete:
        raise ValueError("the probabilities were not kept")
    return restore_probabilities(found.probabilities, restore)


def label_volumes(labels: NDArray[np.uint8], task: Task, voxel_mm3: float) -> dict[str, float]:
    """{label name: ml} of a label map (X, Y, Z)."""
    return {task.name_of(n): round(int(np.count_nonzero(labels == n)) * voxel_mm3 / 1000, 3) for n in task.labels}


def region_volumes(
    millilitres: Mapping[str, float], task: Task, regions: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, float]:
    """{region name: ml}, from the volumes of the labels. `regions` {name: labels} are by default the task's."""
    regions = regions or {region.name: region.labels for region in task.regions}
    return {name: round(sum(millilitres[task.name_of(n)] for n in labels), 3) for name, labels in regions.items()}
