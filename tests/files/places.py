"""Of images and label maps: where they lie, and why one is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.files.nifti import (
    read_volume,
)
from tests.case_files import raw_header

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([0.9, 1.1, 2.0]), [-80, 90, -70])
RAW_GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


def reason(path: Path) -> str:
    """Why the file is refused: one line that names it."""
    with pytest.raises(CaseError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


def assert_same_place(image: Path, labels: Path) -> None:
    """Every header field that places the grid, raw, and what the two usual readers make of it."""
    before, after = raw_header(image), raw_header(labels)
    for name in RAW_GEOMETRY:
        assert np.array_equal(before[name], after[name], equal_nan=True), name
    assert np.array_equal(before["pixdim"][:4], after["pixdim"][:4])
    assert np.array_equal(before["dim"][1:4], after["dim"][1:4])
    assert np.array_equal(nib.load(image).affine, nib.load(labels).affine)
