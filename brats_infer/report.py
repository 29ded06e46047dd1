"""What a run did: report.json, and a picture of each case: four contrasts, three planes, the labels' outline."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import nibabel.orientations as nio
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brats_infer import __version__
from brats_infer.cases import Case, find_cases
from brats_infer.errors import CaseError, OutputError
from brats_infer.pipeline import CaseResult, Status
from brats_infer.tasks import LABEL_NAMES, MODALITIES
from brats_infer.volume import read_images, read_labels
from model.atomic import write_atomically

log = logging.getLogger(__name__)

PLANES = ("axial", "coronal", "sagittal")
COLOURS = {1: "#e4572e", 2: "#ffc914", 3: "#3ddbd9"}
"""Of the labels NCR, ED and ET; told apart also by those who do not tell red from green."""
WINDOW = (1.0, 99.0)  # percentiles of the brain's voxels that are shown as black and white


def write_report(
    folder: Path, input_folder: Path, output_folder: Path, task: str, results: Sequence[CaseResult]
) -> None:
    """Writes report.json and `{ID}.png` for every case that has a label map; warns of one that cannot be drawn.

    Raises OutputError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = {"version": __version__, "cases": [asdict(result) for result in results]}
        write_atomically(folder / "report.json", (to_json(content) + "\n").encode())
        done = {result.id for result in results if result.status in (Status.WRITTEN, Status.SKIPPED)}
        for case in find_cases(input_folder, task):
            if case.id in done:
                _try_to_draw(case, output_folder / case.output_name, folder / f"{case.id}.png")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}): choose another --report") from error


def to_json(content: object) -> str:
    """As JSON that may stand inside a web page: a file name can hold a tag."""
    return json.dumps(content, indent=2).replace("<", "\\u003c")


def _try_to_draw(case: Case, labels_path: Path, picture: Path) -> None:
    try:
        draw_case(case, labels_path, picture)
    except CaseError as error:
        log.warning("warning: no picture of %s: %s", case.id, error)


def draw_case(case: Case, labels_path: Path, picture: Path) -> None:
    """Draws the four contrasts of a case with the outline of its labels, in three planes through the tumor.

    Seen as radiologists do: the patient's left is on the right. Raises CaseError for files that cannot be read.
    """
    volumes = read_images(case.paths.values())
    labels, geometry = read_labels(labels_path)
    to_ras = nio.ornt_transform(nio.io_orientation(geometry.affine), nio.axcodes2ornt(("R", "A", "S")))
    images = [np.asarray(nio.apply_orientation(volume.data, to_ras)) for volume in volumes.values()]
    if not all(image.any() for image in images):
        raise CaseError(f"{case.id}: an image is all zero: export it again")
    if labels.shape != volumes[next(iter(volumes))].geometry.shape:
        raise CaseError(f"{labels_path}: is not on the grid of the images: run brats-opt on {case.id} again")
    labels = np.asarray(nio.apply_orientation(labels, to_ras))
    draw(images, labels, case.id, geometry.voxel_mm3, picture)


def draw(
    images: Sequence[NDArray[np.float32]], labels: NDArray[np.uint8], title: str, voxel_mm3: float, picture: Path
) -> None:
    """Draws four images (X, Y, Z) on RAS axes, background 0, with the outline of the labels on the same grid."""
    brain = np.any(images, axis=0)
    box = _box(brain)
    images, labels = [image[box] for image in images], labels[box]
    centre = _centre(labels if labels.any() else brain[box])
    figure = Figure(figsize=(11, 8.6), facecolor="black", layout="constrained")
    axes = figure.subplots(len(PLANES), len(images))
    for row, plane in enumerate(PLANES):
        for column, (image, modality) in enumerate(zip(images, MODALITIES, strict=True)):
            axis = axes[row, column]
            low, high = np.percentile(image[image != 0], WINDOW)
            axis.imshow(_slice(image, plane, centre), cmap="gray", vmin=low, vmax=high, origin="lower")
            _outline(axis, _slice(labels, plane, centre))
            axis.set_axis_off()
            if row == 0:
                axis.set_title(modality.title, color="white", fontsize=10)
    names = "   ".join(f"{LABEL_NAMES[label]} {(labels == label).sum() * voxel_mm3 / 1000:.1f} ml" for label in COLOURS)
    figure.suptitle(f"{title}   {names}", color="white", fontsize=10)
    with mpl.rc_context({"savefig.facecolor": "black"}):
        figure.savefig(picture, dpi=100)


def _box(mask: NDArray[np.generic]) -> tuple[slice, slice, slice]:
    """The bounding box of a mask, with a margin for the eye."""
    where = np.argwhere(mask)
    low, high = np.maximum(where.min(axis=0) - 6, 0), where.max(axis=0) + 7
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])


def _centre(mask: NDArray[np.generic]) -> tuple[int, int, int]:
    """For each axis the slice that shows most of the mask."""
    sums = [mask.astype(bool).sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    return int(sums[0].argmax()), int(sums[1].argmax()), int(sums[2].argmax())


def _slice(array: NDArray[np.generic], plane: str, centre: tuple[int, int, int]) -> NDArray[np.generic]:
    """A plane of a RAS array as (rows, columns), rows upwards, the patient's right (or front) on the left."""
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    return np.asarray(np.take(array, centre[axis], axis=axis).T[:, ::-1])


def _outline(axis: object, labels: NDArray[np.generic]) -> None:
    for label, colour in COLOURS.items():
        mask = labels == label
        if mask.any() and not mask.all():
            axis.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.1)  # type: ignore[attr-defined]
