"""Pairs of label maps to be scored: finds predictions and references by their names; opens no file."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from brats_infer.errors import NoCasesError, UsageError
from brats_infer.files.search.names import IMAGE_ENDINGS
from brats_infer.tasks import MODALITIES

PREDICTION = "{ID}.nii.gz"
REFERENCE = "{ID}-seg.nii.gz"
REFERENCE_ENDINGS = tuple(f"{mark}seg{ending}" for mark in "-_" for ending in IMAGE_ENDINGS)
IMAGES = tuple(suffix for modality in MODALITIES for suffix in modality.suffixes)
CHANNEL = re.compile(r"_\d{4}$")  # of nnU-Net's images, as in BRATS_001_0000.nii.gz


@dataclass(frozen=True)
class Pair:
    """A reference and its prediction."""

    id: str
    reference: Path
    prediction: Path | None
    """None where it is missing."""


def find_pairs(predictions: Path, references: Path) -> list[Pair]:
    """The references of a folder with their predictions, by ID ascending. Files may lie in folders at any depth.

    Raises UsageError for a folder that cannot be read, predictions without a reference, cases found twice and a file
    that is both; NoCasesError without references or without any prediction.
    """
    known = find_references(references)
    if not known:
        raise NoCasesError(
            f"{references}: holds no reference: expected {REFERENCE} or {PREDICTION}, flat or in folders"
        )
    found = find_labels(predictions, IMAGE_ENDINGS)
    if extra := [str(path) for case_id, path in found.items() if case_id not in known]:
        shown = ", ".join(extra[:5]) + (f" and {len(extra) - 5} more" if len(extra) > 5 else "")
        raise UsageError(f"no reference {REFERENCE} in {references} for {shown}: rename or remove them")
    if not found:
        raise NoCasesError(f"{predictions}: holds no prediction: expected {PREDICTION}, flat or in folders")
    if same := next(
        (path for case_id, path in found.items() if os.path.realpath(path) == os.path.realpath(known[case_id])), None
    ):
        raise UsageError(f"{same}: is the prediction and the reference: name the folder of the predictions")
    return [Pair(case_id, path, found.get(case_id)) for case_id, path in sorted(known.items())]


def pair_of_files(prediction: Path, reference: Path) -> Pair:
    """The pair of two files, whatever they are called. Its ID comes from the reference's name."""
    return Pair(id_of_reference(reference), reference, prediction)


def find_references(root: Path) -> dict[str, Path]:
    """{ID: file} of every {ID}-seg.nii.gz in a folder; if there is none, of every {ID}.nii.gz that is no image.

    nnU-Net's folder labelsTr holds the latter. Raises UsageError as `find_labels`.
    """
    if known := find_labels(root, REFERENCE_ENDINGS):
        return known
    plain = find_labels(root, IMAGE_ENDINGS)
    return {
        case_id: path
        for case_id, path in plain.items()
        if not case_id.lower().endswith(IMAGES) and CHANNEL.sub("", case_id) not in plain.keys() - {case_id}
    }


def id_of_reference(path: Path) -> str:
    """The case ID in the name of a reference."""
    ending = next((e for e in (*REFERENCE_ENDINGS, *IMAGE_ENDINGS) if path.name.lower().endswith(e)), "")
    return path.name[: len(path.name) - len(ending)]


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
