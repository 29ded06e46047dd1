"""Studies of NIfTI files: the contrasts by their names."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.preparation.studies.named import contrast_by_name
from brats_infer.preparation.studies.study import read_study
from tests.preparation.dicom_series import SEQUENCES, affine_of, blob, write_series


def _write(path: Path, seed: int, shape: tuple[int, ...] = (6, 7, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).integers(0, 900, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    return path


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("t1.nii.gz", "t1n"),
        ("T1GD.nii", "t1c"),
        ("patient_t1ce.nii.gz", "t1c"),
        ("sub-01_ce-gad_T1w.nii.gz", "t1c"),
        ("sub-01_T1w.nii.gz", "t1n"),
        ("FLAIR_3D.nii.gz", "t2f"),
        ("T2_FLAIR.nii.gz", "t2f"),
        ("T1_MPRAGE_post.nii.gz", "t1c"),
        ("t1_mprage_sag_KM_7.nii.gz", "t1c"),
        ("5_MPRAGE_nativ.nii.gz", "t1n"),
        ("mprage.nii.gz", "t1n"),
        ("t2_tirm_tra_dark-fluid.nii.gz", "t2f"),
        ("T2_TSE_ax.nii.gz", "t2w"),
        ("SWI-001_t2.nii.gz", "t2w"),
        ("T2_star.nii.gz", None),
        ("t1_mask.nii.gz", None),
        ("BraTS-GLI-00001-000-seg.nii.gz", None),
        ("dwi_b1000.nii.gz", None),
        ("image.nii.gz", None),
    ],
)
def test_names_tell_contrasts(name: str, contrast: str | None) -> None:
    named = contrast_by_name(name)
    assert (named.contrast if named else None) == contrast


def test_files_are_taken_as_they_are(tmp_path: Path) -> None:
    names = {"t1n": "S1_T1w.nii.gz", "t1c": "S1_T1w_Gd.nii.gz", "t2w": "S1_T2w.nii", "t2f": "FLAIR_3D.nii.gz"}
    paths = {f: _write(tmp_path / "S1" / "anat" / name, i) for i, (f, name) in enumerate(names.items())}
    _write(tmp_path / "S1" / "anat" / "other.nii.gz", 9)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert {f: (scan.image, scan.source, scan.dicom) for f, scan in study.scans.items()} == {
        f: (path, path.name, ()) for f, path in paths.items()
    }
    assert study.notes == ("other.nii.gz passed over (its name tells no contrast)",)
    assert not (tmp_path / "work").exists()


def test_file_of_a_half_loses_whatever_its_voxels(tmp_path: Path) -> None:
    (tmp_path / "S1").mkdir()
    for name, shape, mm in (("a_t2", (40, 40, 20), (4.0, 4.0, 5.0)), ("b_t2", (20, 20, 20), (8.0, 8.0, 8.0))):
        data = np.random.default_rng(len(shape)).integers(0, 900, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(data, np.diag([*mm, 1.0])), tmp_path / "S1" / f"{name}.nii.gz")
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t2w: a_t2.nii.gz passed over for b_t2.nii.gz (covers 100 mm of the head)",)


def test_file_of_more_voxels_wins(tmp_path: Path) -> None:
    _write(tmp_path / "S1" / "a_t2.nii.gz", 1, (4, 4, 4))
    _write(tmp_path / "S1" / "b_t2.nii.gz", 2)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.scans["t2w"].source == "b_t2.nii.gz"
    assert study.notes == ("t2w: a_t2.nii.gz passed over for b_t2.nii.gz (fewer voxels)",)


def test_file_of_the_surer_name_wins_among_equals(tmp_path: Path) -> None:
    _write(tmp_path / "S1" / "a_t2.nii.gz", 1)
    _write(tmp_path / "S1" / "a_t2_brain.nii.gz", 2)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t2w: a_t2_brain.nii.gz passed over for a_t2.nii.gz (a less sure name)",)


def test_equal_files_are_asked_about_and_chosen_by_name(tmp_path: Path) -> None:
    _write(tmp_path / "S1" / "a_t2.nii.gz", 1)
    _write(tmp_path / "S1" / "b_t2.nii.gz", 2)
    with pytest.raises(CaseError, match=r"could both be t2w: choose with --series t2w=a_t2\.nii\.gz"):
        read_study(tmp_path / "S1", tmp_path / "work")
    assert read_study(tmp_path / "S1", tmp_path / "work", {"t2w": "b_t2.nii.gz"}).scans["t2w"].source == "b_t2.nii.gz"


def test_two_copies_of_one_image_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "S1" / "t1.nii.gz", 1)
    turned = nib.load(path).as_reoriented(nib.orientations.axcodes2ornt("PRS"))
    nib.save(turned, tmp_path / "S1" / "flair.nii.gz")
    with pytest.raises(CaseError, match=r"S1: t1n \(t1.nii.gz\) and t2f \(flair.nii.gz\) hold the same image"):
        read_study(tmp_path / "S1", tmp_path / "work")


def test_image_of_several_volumes_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "S1" / "t1.nii.gz", 1, (4, 4, 4, 3))
    with pytest.raises(CaseError) as raised:
        read_study(tmp_path / "S1", tmp_path / "work")
    assert str(raised.value) == f"{path}: holds 3 volumes: extract the one that is the contrast"


def test_unreadable_image_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "S1" / "t1.nii", 1)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(CaseError, match=r"t1\.nii: holds .* truncated"):
        read_study(tmp_path / "S1", tmp_path / "work")


def test_dicom_wins_over_nifti_and_nifti_fills_what_lacks(tmp_path: Path) -> None:
    write_series(tmp_path / "S1" / "dicom", blob(1), affine_of("axial"), SEQUENCES["t2w"], number=5)
    _write(tmp_path / "S1" / "t2.nii.gz", 1, (4, 4, 4, 2))
    _write(tmp_path / "S1" / "flair.nii.gz", 2)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert {f: scan.source for f, scan in study.scans.items()} == {
        "t2w": "series 5, 14 slices",
        "t2f": "flair.nii.gz",
    }
    assert study.notes == ("t2w: t2.nii.gz passed over for series 5 (DICOM)",)
