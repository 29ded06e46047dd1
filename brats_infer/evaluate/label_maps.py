"""Reads label maps: what their labels mean, and on which grid they lie."""

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import nibabel.orientations as nio
import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.evaluate.lesionwise import unknown_labels
from brats_infer.evaluate.pairs import Pair, id_of_reference
from brats_infer.evaluate.surface import Spacing
from brats_infer.files.geometry import Geometry
from brats_infer.files.labels import read_label_map
from brats_infer.files.nifti import Volume
from brats_infer.tasks import (
    ET,
    ET_2021,
    ID_OF_2023,
    ID_OF_COLLECTION,
    ID_UNTIL_2021,
    IMAGE_NAMES_2021,
    Task,
)

OWN_GRID = "write it on the grid of the images"
DATASET = "dataset.json"
WORDS = {
    "WT": r"whole|^wt$",
    "ED": r"o?edema|\bed\b|snfh|hyperintens",
    "NCR": r"necro|non[-_ ]?enhanc|\b(?:ncr|net|netc)\b",
    "TC": r"^tumou?r[-_ ]?core|^tc$",
    "ET": r"enhanc|\bet\b",
    "RC": r"cavit|resect|^rc$",
    "CC": r"cyst|^cc$",
    "GTV": r"gross|^gtv$",
}
"""{tissue or region: regular expression of its names in a dataset.json}; the first that fits counts."""
SPACING_DIGITS = 5  # float32 affines give 0.9999999 for 1 mm; a lesion of 50 mm3 would then fall below the limit


@dataclass(frozen=True)
class Maps:
    """The two label maps of a pair, on the reference's grid."""

    prediction: NDArray[np.uint8] | None
    """(X, Y, Z), or None where it is missing."""
    reference: NDArray[np.uint8]
    """(X, Y, Z)"""
    geometry: Geometry
    warnings: tuple[str, ...] = ()

    @property
    def spacing(self) -> Spacing:
        """Edge lengths of a voxel in mm."""
        return rounded_spacing(self.geometry)


def read_pair(pair: Pair, task: Task) -> Maps:
    """Reads a pair. Raises CaseError as `read_known` and `read_reference` do, and where the grids differ."""
    reference = read_reference(pair.reference, task)
    if pair.prediction is None:
        return Maps(None, reference.data, reference.geometry, reference.warnings)
    prediction = read_known(pair.prediction, task)
    prediction = on_grid(prediction, pair.prediction, reference.geometry, pair.reference.name)
    return Maps(prediction.data, reference.data, reference.geometry, (*prediction.warnings, *reference.warnings))


def read_known(path: Path, task: Task) -> Volume:
    """Reads a label map (X, Y, Z). Raises CaseError for a file that cannot be read or a label that the task lacks."""
    return _known(path, task, read_label_map(path))


def read_reference(path: Path, task: Task) -> Volume:
    """Reads an expert's label map as `read_known`. In challenges until 2021 the label 4 is the enhancing tumor."""
    found = read_label_map(path)
    if ET_2021 not in task.labels and ET not in found.data and ET_2021 in found.data and _is_until_2021(path):
        found.data[found.data == ET_2021] = ET
    return _known(path, task, found)


def on_grid(labels: Volume, path: Path, grid: Geometry, name: str, remedy: str = OWN_GRID) -> Volume:
    """Labels of the file `path` on another grid, called `name`, if both cover the same voxels in the world.

    Another order or flips of the axes are undone, with a warning. Raises CaseError for any other grid.
    """
    warnings = list(labels.warnings)
    turn = turn_onto(labels.geometry, grid)
    if turn is None:
        raise CaseError(f"{path}: {labels.geometry.difference(grid, name)}: {remedy}")
    turned = _turned(labels.geometry, turn)
    data = labels.data
    if not np.array_equal(turn, nio.io_orientation(np.eye(4))):
        here, there = ("".join(nib.aff2axcodes(one.affine)) for one in (labels.geometry, grid))
        warnings.append(f"{path}: its axes are {here}, those of {name} {there}: it was turned onto them")
        data = np.ascontiguousarray(nio.apply_orientation(data, turn))
    if offset := turned.offset(grid, name):
        warnings.append(f"{path}: {offset}: they were taken as one grid")
    return replace(labels, data=data, geometry=grid, warnings=tuple(warnings))


def rounded_spacing(geometry: Geometry) -> Spacing:
    """Edge lengths of a voxel in mm, without the noise of float32."""
    x, y, z = (round(edge, SPACING_DIGITS) for edge in geometry.spacing)
    return x, y, z


def _known(path: Path, task: Task, found: Volume) -> Volume:
    _check_names(path, task)
    unknown = unknown_labels(found.data, task)
    if unknown == (ET_2021,):
        raise CaseError(
            f"{path}: holds the label 4: from 2024 on that is the resection cavity, until 2021 it was ET: "
            f"set it to 0 if it is a cavity, to {ET} if it is ET"
        )
    if unknown:
        raise CaseError(
            f"{path}: holds the label {', '.join(map(str, unknown))}, {task.name} knows 0 and {task.labels}: "
            "map it to one of them, or choose another --task"
        )
    return found


def _check_names(path: Path, task: Task) -> None:
    """Raises CaseError if nnU-Net's dataset.json, beside a label map or above it, gives labels another meaning.

    nnU-Net and the Medical Segmentation Decathlon exchange 1 and 2 of BraTS.
    """
    file = next((found for folder in path.absolute().parents[:2] if (found := folder / DATASET).is_file()), None)
    meant: dict[str, tuple[int, ...]] = {_tissue_in(task.name_of(label)): (label,) for label in task.labels}
    meant |= {_tissue_in(region.name): region.labels for region in task.regions}
    for text, labels in _names_in(file) if file else ():
        name = _tissue_in(text)
        if name and name in meant and labels != meant[name] and (name, labels) != ("ET", (ET_2021,)):
            raise CaseError(
                f"{path}: {file} calls {labels} {text!r}, in {task.name} that is {meant[name]}: renumber the labels"
            )


def _tissue_in(text: str) -> str:
    """The key of `WORDS` that a name means; empty if it means none."""
    return next((name for name, words in WORDS.items() if re.search(words, text.lower())), "")


def _names_in(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    """[(name, labels)] in a dataset.json of nnU-Net v1 ({"1": name}) or v2 ({name: 1} or {name: [1, 2]})."""
    found = []
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        for key, value in json.loads(file.read_text())["labels"].items():
            name, labels = (value, [key]) if key.isdigit() else (key, value if isinstance(value, list) else [value])
            found.append((str(name), tuple(sorted(int(label) for label in labels))))
    return found


def _is_until_2021(path: Path) -> bool:
    """Whether labels are those of the challenges until 2021: by the ID, the folder's name, or images beside it."""
    case_id = id_of_reference(path)
    if ID_OF_2023.fullmatch(case_id):
        return False
    if any(
        ids.fullmatch(n) for ids in (ID_UNTIL_2021, ID_OF_COLLECTION) for n in (case_id, path.absolute().parent.name)
    ):
        return True
    image = re.compile(rf"{re.escape(case_id)}(?:{'|'.join(IMAGE_NAMES_2021)})\.nii(?:\.gz)?", re.IGNORECASE)
    return any(image.fullmatch(other.name) for other in path.parent.iterdir())


def turn_onto(grid: Geometry, other: Geometry) -> NDArray[np.float64] | None:
    """The nibabel orientation transform that brings an array of a grid onto another one.

    The identity if `difference` is None. None if no order and no flips of the axes make both one grid.
    """
    with np.errstate(all="ignore"):  # the affines may hold any number that float32 holds
        to_other = np.linalg.solve(other.affine, grid.affine)
    if not np.isfinite(to_other).all():
        return None
    turn = np.asarray(nio.io_orientation(to_other), np.float64)
    if np.isnan(turn).any():
        return None
    return None if _turned(grid, turn).difference(other, "") else turn


def _turned(grid: Geometry, turn: NDArray[np.float64]) -> Geometry:
    """The grid of an array after `nibabel.orientations.apply_orientation`, to compare: its fields stay as read."""
    sides = [0, 0, 0]
    for side, (to, _) in zip(grid.shape, turn, strict=True):
        sides[int(to)] = side
    affine = grid.affine @ nio.inv_ornt_aff(turn, grid.shape)
    return Geometry((sides[0], sides[1], sides[2]), affine, grid.fields)
