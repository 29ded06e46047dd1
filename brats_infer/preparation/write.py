"""Writes a prepared case: images in the layout of 2023, transforms, picture, record."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.errors import OutputError
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import write_image
from brats_infer.preparation.case_of_study import Prepared
from brats_infer.preparation.picture import draw_prepared
from brats_infer.preparation.record import Record, write_record
from brats_infer.preparation.registration.grids import Grid
from brats_infer.preparation.registration.scan import zyx
from model.atomic import write_atomically

TRANSFORMS = "transforms"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LARGEST = 32767  # of int16
FEW_STEPS = 1000  # images of a smaller range are stretched, so that whole numbers are fine enough
STRETCHED = 10000.0


def write_case(prepared: Prepared, record: Record, folder: Path) -> None:
    """Writes `FOLDER/ID-t1c.nii.gz` …, `transforms/`, `prepare.png` and, last, `prepare.json`. Raises OutputError."""
    case_id = folder.name
    try:
        (folder / TRANSFORMS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}): choose another --out") from error
    for contrast, image in prepared.images.items():
        grid = Grid.of(image)
        write_image(folder / f"{case_id}-{contrast}.nii.gz", whole_numbers(zyx(image).T), geometry_of(grid))
        _write_transform(prepared.transforms[contrast], folder / TRANSFORMS / f"{contrast}.tfm")
    write_atomically(folder / "prepare.png", draw_prepared(prepared, case_id))
    write_record(folder, record)


def geometry_of(grid: Grid) -> Geometry:
    """ITK's grid (LPS) as NIfTI has it (RAS)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    affine[:3, 3] = grid.origin
    return Geometry.of_affine(grid.size, LPS_TO_RAS @ affine)


def whole_numbers(image: NDArray[np.float32]) -> NDArray[np.int16]:
    """(X, Y, Z): rounded; an image beyond int16 or of a small range is scaled first. Brain is never rounded to 0."""
    top = float(np.abs(image).max())
    fits = FEW_STEPS <= top <= LARGEST
    scaled = image if fits or top == 0 else image * np.float32(STRETCHED / top)
    rounded = np.rint(scaled)
    return np.where((image != 0) & (rounded == 0), np.sign(image), rounded).astype(np.int16)


def _write_transform(transform: sitk.Transform, path: Path) -> None:
    try:
        sitk.WriteTransform(transform, str(path))
    except RuntimeError as error:
        raise OutputError(f"{path}: cannot be written: free some space or choose another --out") from error
