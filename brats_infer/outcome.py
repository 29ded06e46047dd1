"""From the networks' probabilities on a crop to the label map on the input's own grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.devices import CPU, beside, is_out_of_memory, on_host
from brats_infer.postprocess import keep_brain
from brats_infer.preprocess import Restore, restore_labels, restore_probabilities
from brats_infer.tasks import Task
from brats_infer.thresholds import labels_from_probabilities

Clean = Callable[[NDArray[np.uint8], NDArray[np.float32] | None], NDArray[np.uint8]]


NO_TUMOR = "no tumor was found, the label map is empty: look at the images"


@dataclass(frozen=True)
class Outcome:
    """What the networks found in a case, before it is cleaned and put back."""

    labels: NDArray[np.uint8]
    """(x, y, z), the crop."""
    probabilities: NDArray[np.float32] | None
    """(R, x, y, z), where labels alone will not do."""


def outcome_of(probabilities: Tensor, restore: Restore, task: Task, keep: bool = False) -> Outcome:
    """Thresholds where the networks computed, and what comes of them on the host.

    The probabilities come along if they are to be kept; a resampled case needs them, as labels cannot be interpolated.
    Raises ValueError on NaN.
    """
    keep = keep or restore.resampled
    try:
        with beside(probabilities.device):  # which may be at work on another case
            labels = on_host(labels_from_probabilities(probabilities, task)).numpy()
            return Outcome(labels, on_host(probabilities.contiguous()).numpy() if keep else None)
    except RuntimeError as error:
        if probabilities.device == CPU or not is_out_of_memory(error):
            raise
    return outcome_of(probabilities.cpu(), restore, task, keep)


def inside_brain(outcome: Outcome, brain: NDArray[np.bool_], probabilities: bool = True) -> Outcome:
    """With no label outside the brain (x, y, z); `probabilities`: and those there 0, which takes far longer."""
    kept = outcome.probabilities
    if probabilities and kept is not None:
        kept = keep_brain(kept, brain)
    return Outcome(keep_brain(outcome.labels, brain), kept)


def label_map(outcome: Outcome, restore: Restore, task: Task, clean: Clean) -> NDArray[np.uint8]:
    """The cleaned labels (X, Y, Z) on the input's grid."""
    if not restore.resampled:  # cleaned on the crop: around it is background
        return restore_labels(clean(outcome.labels, outcome.probabilities), restore)
    maps = probability_maps(outcome, restore)
    return clean(labels_from_probabilities(torch.from_numpy(maps), task).numpy(), maps)


def probability_maps(outcome: Outcome, restore: Restore) -> NDArray[np.float32]:
    """(R, X, Y, Z) on the input's grid. Raises ValueError if they were not kept."""
    if outcome.probabilities is None:
        raise ValueError("the probabilities were not kept")
    return restore_probabilities(outcome.probabilities, restore)
