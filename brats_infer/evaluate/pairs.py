"""Pairs of label maps to be scored: finds predictions and references, reads them, checks labels and grids."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError, NoCasesError, UsageError
from brats_infer.evaluate.lesionwise import unknown_labels
from brats_infer.evaluate.surface import Spacing
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import read_labels
from brats_infer.files.search import IMAGE_ENDINGS
from brats_infer.tasks import ET, ET_2021, Task

PREDICTION = "{ID}.nii.gz"
REFERENCE = "{ID}-seg.nii.gz"
OWN_GRID = "write it on the grid of the images"
SPACING_DIGITS = 5  # float32 affines give 0.9999999 for 1 mm; a lesion of 50 mm3 would then fall below the limit
REFERENCE_ENDINGS = tuple(f"{mark}seg{ending}" for mark in "-_" for ending in IMAGE_ENDINGS)


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction."""

    id: str
    reference: Path
    prediction: Path | None
    """None where it is missing."""


def find_pairs(predictions: Path, references: Path) -> list[Pair]:
    """The references of a folder with their predictions, by ID ascending. Files may lie in folders at any depth.

    Raises UsageError for a folder that cannot be read, predictions without a reference and cases found twice;
    NoCasesError without references or without any prediction.
    """
    known = find_labels(references, REFERENCE_ENDINGS)
    if not known:
        raise NoCasesError(f"{references}: holds no reference: expected {REFERENCE}, flat or in folders")
    found = find_labels(predictions, IMAGE_ENDINGS)
    if extra := [str(path) for case_id, path in found.items() if case_id not in known]:
        shown = ", ".join(extra[:5]) + (f" and {len(extra) - 5} more" if len(extra) > 5 else "")
        raise UsageError(f"no reference {REFERENCE} in {references} for {shown}: rename or remove them")
    if not found:
        raise NoCasesError(f"{predictions}: holds no prediction: expected {PREDICTION}, flat or in folders")
    return [Pair(case_id, path, found.get(case_id)) for case_id, path in sorted(known.items())]


def read_pair(pair: Pair, task: Task) -> tuple[NDArray[np.uint8] | None, NDArray[np.uint8], Spacing]:
    """Prediction (None where it is missing), reference, both (X, Y, Z), and spacing in mm.

    Raises CaseError as `read_known` does, and where the two grids differ.
    """
    reference, geometry = read_reference(pair.reference, task)
    x, y, z = (round(edge, SPACING_DIGITS) for edge in geometry.spacing)
    if pair.prediction is None:
        return None, reference, (x, y, z)
    prediction, predicted = read_known(pair.prediction, task)
    if difference := predicted.difference(geometry, pair.reference.name):
        raise CaseError(f"{pair.prediction}: {difference}: {OWN_GRID}")
    return prediction, reference, (x, y, z)


def read_known(path: Path, task: Task) -> tuple[NDArray[np.uint8], Geometry]:
    """Reads a label map (X, Y, Z). Raises CaseError for a file that cannot be read or a label that the task lacks."""
    return _known(path, task, *read_labels(path))


def read_reference(path: Path, task: Task) -> tuple[NDArray[np.uint8], Geometry]:
    """Reads an expert's label map as `read_known`, of any year: until 2021 the enhancing tumor was 4."""
    labels, geometry = read_labels(path)
    if ET not in labels and ET_2021 not in task.labels:
        labels[labels == ET_2021] = ET
    return _known(path, task, labels, geometry)


def _known(path: Path, task: Task, labels: NDArray[np.uint8], geometry: Geometry) -> tuple[NDArray[np.uint8], Geometry]:
    if unknown := unknown_labels(labels, task):
        raise CaseError(
            f"{path}: holds the label {', '.join(map(str, unknown))}, {task.name} knows 0 and {task.labels}: "
            "map it to one of them, or choose another --task"
        )
    return labels, geometry


def find_labels(root: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """{ID: file} of every name with one of these endings, in any case, in a folder and the folders in it.

    Raises UsageError for a folder that cannot be read and for cases found twice.
    """
    found: dict[str, Path] = {}
    for path in _files(root):
        ending = next((ending for ending in endings if path.name.lower().endswith(ending)), None)
        if ending is None or path.name.startswith("."):
            continue
        case_id = path.name[: -len(ending)]
        if case_id in found:
            raise UsageError(f"{path}: is a second label map of {case_id}, beside {found[case_id]}: remove one")
        found[case_id] = path
    return found


def _files(root: Path) -> Iterator[Path]:
    """Every file of the folder and the folders in it, links followed, hidden folders left out. Raises UsageError."""

    def refuse(error: OSError) -> None:
        raise UsageError(
            f"{error.filename}: cannot be read ({error.strerror}): name the folder of the cases"
        ) from error

    seen = set()
    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in sorted(names))
