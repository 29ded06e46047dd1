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
from brats_infer.geometry import AFFINE_TOLERANCE
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
    training cases only. Raises UsageError for IDs that cannot be held out or skipped and for nothing to train on,
    CaseError for a case or file that cannot be used.
    """
    task = task_named(task_name)
    cases = {case.id: case for case in find_cases(folder, task_name)}
    unknown = (set(hold_out) | set(skip)) - set(cases)
    if unknown:
        raise UsageError(f"{folder}: holds no case {', '.join(sorted(unknown))}: check --hold-out and --skip")
    references = label_maps(folder)
    used = [case for case in cases.values() if case.id in references and case.id not in skip]
    if lost := set(hold_out) - {case.id for case in used}:
        raise UsageError(f"{folder}: cannot hold out {', '.join(sorted(lost))}: skipped, or without {{ID}}-seg.nii.gz")
    raw = {case.id: _read(case, references[case.id], task) for case in used}
    training = [case_id for case_id in raw if case_id not in hold_out]
    if not training:
        raise UsageError(
            f"{folder}: no case to train on has a {{ID}}-seg.nii.gz: give the folder that holds images and labels"
        )
    histogram = histogram_reference([raw[i][0] for i in training]) if normalisation == Normalisation.HISTOGRAM else None
    ready = {
        case_id: _training_case(case_id, images, regions, normalisation, histogram)
        for case_id, (images, regions) in raw.items()
    }
    return Split(tuple(ready[i] for i in training), tuple(ready[i] for i in raw if i in hold_out), histogram)


def labelled_ids(folder: Path, task_name: str, skip: Sequence[str]) -> list[str]:
    """The IDs of the cases that `load_split` would take, ascending. Raises UsageError as it does."""
    references = label_maps(folder)
    return [case.id for case in find_cases(folder, task_name) if case.id in references and case.id not in skip]


def label_maps(folder: Path) -> dict[str, Path]:
    """{case ID: label map}, wherever in the folder. Raises UsageError where a case has two."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*-seg.nii.gz")):
        case_id = path.name.removesuffix("-seg.nii.gz")
        if case_id in found:
            raise UsageError(f"{path}: is a second label map of {case_id}, beside {found[case_id]}: remove one")
        found[case_id] = path
    return found


def _read(case: Case, reference: Path, task: Task) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(4, X, Y, Z) raw images and (R, X, Y, Z) masks on the canonical crop."""
    if case.problem:
        raise CaseError(case.problem)
    cropped = crop_to_brain(read_images(case.paths.values()))
    labels, geometry = read_labels(reference)
    expected = cropped.restore.geometry
    if geometry.shape != expected.shape or not np.allclose(geometry.affine, expected.affine, atol=AFFINE_TOLERANCE):
        raise CaseError(f"{reference}: its grid is not that of the images: use the label map of this case")
    if unknown := set(np.unique(labels).tolist()) - {0, *task.labels}:
        raise CaseError(f"{reference}: holds the labels {sorted(unknown)}, not only {task.labels}: rename them")
    return cropped.images, regions_from_labels(crop_labels(labels, cropped.restore), task)


def _training_case(
    case_id: str,
    images: NDArray[np.float32],
    regions: NDArray[np.bool_],
    normalisation: Normalisation,
    histogram: NDArray[np.float32] | None,
) -> TrainingCase:
    brain = (images != 0).any(axis=0)
    image = network_input(normalise(images, normalisation, histogram), brain, foreground=True)
    if np.abs(image).max() > np.finfo(np.float16).max:
        raise CaseError(f"{case_id}: intensities beyond float16: choose another normalisation than {normalisation}")
    image = image.astype(np.float16)
    return TrainingCase(case_id, torch.from_numpy(image), torch.from_numpy(regions))
