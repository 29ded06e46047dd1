"""From the networks' probabilities on a crop to the label map on the input's own grid."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.image.crop import Restore, restore_labels, restore_probabilities
from brats_infer.image.voxels import bounding_box
from brats_infer.labelling.postprocess import keep_brain
from brats_infer.labelling.thresholds import labels_from_probabilities
from brats_infer.network.devices import CPU, beside, is_out_of_memory, on_host
from brats_infer.tasks import Task

Clean = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.uint8]]


NO_TUMOR = "no tumor was found, the label map is empty: look at the images"


@dataclass(frozen=True)
class Outcome:
    """What the networks found in a case, before it is cleaned and put back."""

    labels: NDArray[np.uint8]
    """(x, y, z), the crop."""
    probabilities: NDArray[np.float32]
    """(R, x, y, z)"""
    whole: bool
    """Else the probabilities are 0 outside the labels' box: of most of the crop nobody wants to know them."""


def outcome_of(probabilities: Tensor, restore: Restore, task: Task, whole: bool = False) -> Outcome:
    """Thresholds where the networks computed, and what comes of them on the host, in memory of its own.

    Of a resampled case the probabilities come along as a whole anyway, as labels cannot be interpolated.
    Raises ValueError on NaN.
    """
    whole = whole or restore.resampled
    try:
        with beside(probabilities.device):  # which may be at work on another case
            labels = on_host(labels_from_probabilities(probabilities, task)).numpy()
            if whole:
                if probabilities.device == CPU:
                    kept = probabilities.clone(memory_format=torch.contiguous_format).numpy()
                else:
                    kept = on_host(probabilities.contiguous()).numpy()
            else:
                kept = np.zeros(probabilities.shape, np.float32)  # of which what is not written to takes no memory
                box = bounding_box(labels > 0)
                kept[:, *box] = on_host(probabilities[:, *box]).numpy()
            return Outcome(labels, kept, whole)
    except RuntimeError as error:
        if probabilities.device == CPU or not is_out_of_memory(error):
            raise
    return outcome_of(probabilities.cpu(), restore, task, whole)


def inside_brain(outcome: Outcome, brain: NDArray[np.bool_]) -> Outcome:
    """With no label outside the brain (x, y, z), nor a probability if they are whole, which takes far longer."""
    kept = keep_brain(outcome.probabilities, brain) if outcome.whole else outcome.probabilities
    return replace(outcome, labels=keep_brain(outcome.labels, brain), probabilities=kept)


def label_map(outcome: Outcome, restore: Restore, task: Task, clean: Clean) -> NDArray[np.uint8]:
    """The cleaned labels (X, Y, Z) on the input's grid."""
    if not restore.resampled:  # cleaned on the crop: around it is background
        return restore_labels(clean(outcome.labels, outcome.probabilities), restore)
    maps = probability_maps(outcome, restore)
    return clean(labels_from_probabilities(torch.from_numpy(maps), task).numpy(), maps)


def probability_maps(outcome: Outcome, restore: Restore) -> NDArray[np.float32]:
    """(R, X, Y, Z) on the input's grid. Raises ValueError if they were not kept."""
    if not outcome.whole:
        raise ValueError("the probabilities were not kept")
    return restore_probabilities(outcome.probabilities, restore)
