"""Training cases: found, preprocessed once, kept in memory as float16."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.cases import Case, find_cases
from brats_infer.ensemble import network_input
from brats_infer.errors import CaseError, UsageError
from brats_infer.labels import regions_from_labels
from brats_infer.preprocess import Normalisation, crop_labels, crop_to_brain, histogram_reference, normalise
from brats_infer.tasks import Task, task_named
from brats_infer.volume import read_images, read_labels


@dataclass(frozen=True)
class TrainingCase:
    """One case as the network sees it."""

    id: str
    image: Tensor
    """(5, X, Y, Z) float16: four normalised modalities and the brain mask; background is 0."""
    regions: Tensor
    """(R, X, Y, Z) bool, in the task's order."""


@dataclass(frozen=True)
class Split:
    """What is trained on and what is held out, with the histogram reference if one was made."""

    training: tuple[TrainingCase, ...]
    validation: tuple[TrainingCase, ...]
    histogram: NDArray[np.float32] | None = None


def load_split(
    folder: Path, task_name: str, hold_out: Sequence[str], skip: Sequence[str], normalisation: Normalisation
) -> Split:
    """Loads every case below a folder that has a `{ID}-seg.nii.gz`, wherever in it.

    `hold_out` are the IDs to validate on, `skip` those to leave alone. A histogram reference is made from the
    training cases only. Raises UsageError for unknown IDs or nothing to train on, CaseError for an unreadable file.
    """
    task = task_named(task_name)
    cases = {case.id: case for case in find_cases(folder, task_name)}
    unknown = (set(hold_out) | set(skip)) - set(cases)
    if unknown:
        raise UsageError(f"{folder}: holds no case {', '.join(sorted(unknown))}: check --hold-out and --skip")
    references = {path.name.removesuffix("-seg.nii.gz"): path for path in sorted(folder.rglob("*-seg.nii.gz"))}
    raw = {}
    for case in cases.values():
        if case.id in skip or case.id not in references:
            continue
        raw[case.id] = _read(case, references[case.id], task)
    training = [case_id for case_id in raw if case_id not in hold_out]
    if not training:
        raise UsageError(
            f"{folder}: no case to train on has a {{ID}}-seg.nii.gz: give the folder that holds images and labels"
        )
    histogram = histogram_reference([raw[i][0] for i in training]) if normalisation is Normalisation.HISTOGRAM else None
    ready = {
        case_id: _training_case(case_id, images, regions, normalisation, histogram)
        for case_id, (images, regions) in raw.items()
    }
    return Split(tuple(ready[i] for i in training), tuple(ready[i] for i in raw if i in hold_out), histogram)


def _read(case: Case, reference: Path, task: Task) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(4, X, Y, Z) raw images and (R, X, Y, Z) masks on the canonical crop."""
    cropped = crop_to_brain(read_images(case.paths.values()))
    labels, geometry = read_labels(reference)
    if geometry.shape != cropped.restore.geometry.shape:
        raise CaseError(
            f"{reference}: shape {geometry.shape} is not that of the images: use the label map of this case"
        )
    return cropped.images, regions_from_labels(crop_labels(labels, cropped.restore), task)


def _training_case(
    case_id: str,
    images: NDArray[np.float32],
    regions: NDArray[np.bool_],
    normalisation: Normalisation,
    histogram: NDArray[np.float32] | None,
) -> TrainingCase:
    brain = (images != 0).any(axis=0)
    image = network_input(normalise(images, normalisation, histogram), brain, foreground=True).astype(np.float16)
    return TrainingCase(case_id, torch.from_numpy(image), torch.from_numpy(regions))
