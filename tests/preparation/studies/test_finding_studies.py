"""Which folders are studies."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import NoCasesError, UsageError
from brats_infer.preparation.studies.study import find_studies
from tests.preparation.dicom_series import SEQUENCES, affine_of, blob, write_series


def _write_nifti(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.int16), np.eye(4)), path)


def test_each_subfolder_with_images_at_any_depth_is_a_study(tmp_path: Path) -> None:
    write_series(tmp_path / "b" / "scans" / "x", blob(0), affine_of("axial"), SEQUENCES["t1n"], suffix="")
    _write_nifti(tmp_path / "a" / "anat" / "t1.nii.gz")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.me").write_text("no image")
    assert find_studies(tmp_path) == [tmp_path / "a", tmp_path / "b"]


def test_folder_that_holds_images_directly_is_one_study(tmp_path: Path) -> None:
    _write_nifti(tmp_path / "t1.nii.gz")
    _write_nifti(tmp_path / "more" / "t2.nii.gz")
    assert find_studies(tmp_path) == [tmp_path]


def test_exported_disk_with_a_dicomdir_is_one_study(tmp_path: Path) -> None:
    write_series(tmp_path / "DICOM" / "A1", blob(0), affine_of("axial"), SEQUENCES["t1n"])
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert find_studies(tmp_path) == [tmp_path]


def test_folder_without_images_holds_no_study(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoCasesError, match="holds no study"):
        find_studies(tmp_path)


def test_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        find_studies(tmp_path / "nowhere")
