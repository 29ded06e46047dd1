"""Synthetic cases that are made while training: a new case for every patch, on the training device."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.image.normalise import Normalisation
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.phantom.make import make_phantom
from brats_infer.phantom.task_recipes import recipe_of
from brats_infer.tasks import Task
from brats_infer.train.data.dataset import TrainingCase, training_case
from brats_infer.train.data.label_dust import without_label_dust


def phantom_maker(
    anatomy: str,
    task: Task,
    normalisation: Normalisation,
    histogram: NDArray[np.float32] | None,
    spacing: int,
    clean: bool = False,
) -> Callable[[int, torch.device], TrainingCase]:
    """A function that makes the case of a seed on a device. The same seed and device give the same case.

    `anatomy` is a folder of label maps, or `mni152`; `clean` removes dust from the labels. Raises UsageError for an
    anatomy that cannot be used, and for a task without phantoms.
    """
    anatomies = recipe_of(task.name).anatomies(anatomy)

    def make(seed: int, device: torch.device) -> TrainingCase:
        phantom = make_phantom(anatomies, task.name, seed, device)
        regions = regions_from_labels(phantom.labels.cpu().numpy(), task)
        regions = without_label_dust(regions, task) if clean else regions
        images = phantom.images.cpu().numpy()
        return training_case(f"phantom {seed}", images, regions, normalisation, histogram, spacing)

    return make
