"""Three cases of small label maps, as files."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

IDS = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-001")
SHAPE = (20, 18, 16)


def labels(number: int, shift: int = 0) -> NDArray[np.uint8]:
    """The reference of a case, or moved along the first axis a prediction of it."""
    tumor = np.zeros(SHAPE, np.uint8)
    for label, rim in ((2, 0), (1, 1), (3, 2)):
        tumor[2 + rim + shift : 9 + number - rim + shift, 3 + rim : 12 - rim, 2 + rim : 10 - rim] = label
    return tumor


def write_map(
    path: Path,
    labels: NDArray[np.uint8],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    angle: float = 0.0,
) -> None:
    """Writes labels (X, Y, Z) on a grid of that spacing in mm, turned about the last axis by an angle in radians."""
    affine = np.diag([*spacing, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine[:2, :2] = turn @ affine[:2, :2]
    nib.save(nib.Nifti1Image(labels, affine), path)


def write_cohort(
    folder: Path, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), angle: float = 0.0
) -> tuple[Path, Path]:
    """Writes the cases flat into two folders: predictions, references."""
    predictions, references = folder / "predictions", folder / "references"
    predictions.mkdir()
    references.mkdir()
    for number, case_id in enumerate(IDS):
        write_map(predictions / f"{case_id}.nii.gz", labels(number, shift=1), spacing, angle)
        write_map(references / f"{case_id}-seg.nii.gz", labels(number), spacing, angle)
    return predictions, references
