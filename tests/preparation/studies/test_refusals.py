"""What stops a study, each in one line that says what to do and nothing about the patient."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.preparation.studies import packages
from brats_infer.preparation.studies.study import read_study
from tests.preparation.dicom_series import SECRETS, SEQUENCES, affine_of, blob, write_series, write_study

NOTHING: Mapping[str, str] = MappingProxyType({})
AXIAL = affine_of("axial")


def _refused(root: Path, chosen: Mapping[str, str] = NOTHING) -> str:
    with pytest.raises(CaseError) as raised:
        read_study(root, root.parent / "work", chosen)
    message = str(raised.value)
    assert not [secret for secret in SECRETS if secret in message.lower()]
    return message


def test_two_equal_series_of_one_contrast_are_asked_about(tmp_path: Path) -> None:
    write_study(tmp_path / "S1")
    write_series(tmp_path / "S1" / "x", blob(9), AXIAL, SEQUENCES["t1c"], number=8)
    assert _refused(tmp_path / "S1") == "S1: series 4 and series 8 could both be t1c: choose with --series t1c=4"
    study = read_study(tmp_path / "S1", tmp_path / "work", {"t1c": "8"})
    assert study.scans["t1c"].source == "series 8, 14 slices"
    assert study.notes == ("t1c: series 4 passed over for series 8 (chosen)",)


def test_two_t1_without_sign_of_the_agent_are_asked_about(tmp_path: Path) -> None:
    for number in (3, 8):
        write_series(tmp_path / "S1" / f"{number}", blob(number), AXIAL, SEQUENCES["t1n"], number=number)
    assert _refused(tmp_path / "S1") == (
        "S1: series 3 and 8 are both T1, and nothing tells which has the contrast agent: choose with --series, for "
        "example t1n=3 and t1c=8"
    )
    study = read_study(tmp_path / "S1", tmp_path / "work", {"t1n": "3", "t1c": "8"})
    assert {c: scan.source for c, scan in study.scans.items()} == {
        "t1n": "series 3, 14 slices",
        "t1c": "series 8, 14 slices",
    }


def test_two_t1_that_only_the_tag_calls_with_agent_are_asked_about(tmp_path: Path) -> None:
    tags = SEQUENCES["t1n"] | {"ContrastBolusAgent": "Gadovist"}
    for number, shape in ((3, (20, 18, 14)), (8, (18, 18, 14))):
        write_series(tmp_path / "S1" / f"{number}", blob(number, shape), AXIAL, tags, number=number)
    assert "S1: series 3 and 8 are both T1, and nothing tells which has the contrast agent" in _refused(tmp_path / "S1")


def test_series_cut_in_half_without_another_is_refused_with_its_gap(tmp_path: Path) -> None:
    write_series(tmp_path / "S1", blob(1), AXIAL, SEQUENCES["t2f"], number=6, skipped=range(5, 9))
    assert _refused(tmp_path / "S1") == (
        "S1: series 6 lacks 4 slices: 55 mm between slices 5 and 6, 11 mm elsewhere. Export it again, or choose "
        "another one with --series"
    )


def test_one_series_for_two_contrasts_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "S1")
    message = _refused(tmp_path / "S1", {"t1n": "4", "t1c": "4"})
    assert message == "S1: t1n and t1c are both series 4: give each contrast its own"


def test_one_image_as_two_contrasts_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1n"])
    write_series(tmp_path / "S1" / "x", blob(0), AXIAL, SEQUENCES["t2f"], number=7)
    assert _refused(tmp_path / "S1") == (
        "S1: t1n (series 3, 14 slices) and t2f (series 7, 14 slices) hold the same image: give each contrast its own"
    )


def test_mirrored_copy_of_an_image_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1n"])
    write_series(tmp_path / "S1" / "x", blob(0)[::-1], AXIAL, SEQUENCES["t2f"], number=7)
    assert "t1n (series 3, 14 slices) and t2f (series 7, 14 slices) hold the same image, one of them mirrored" in (
        _refused(tmp_path / "S1")
    )


def test_chosen_series_that_is_not_there_is_said(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1n", "t2f"])
    assert _refused(tmp_path / "S1", {"t1c": "12"}) == "S1: --series t1c=12: is not there: give one of 3, 6"


def test_chosen_number_of_two_series_is_asked_about(tmp_path: Path) -> None:
    for i in range(2):
        write_series(tmp_path / "S1" / f"{i}", blob(i), AXIAL, SEQUENCES["t2f"], number=6)
    message = _refused(tmp_path / "S1", {"t2f": "6"})
    assert message == "S1: --series t2f=6: there are several: give one of 6a, 6b"
    assert read_study(tmp_path / "S1", tmp_path / "work", {"t2f": "6b"}).scans["t2f"].source == "series 6b, 14 slices"


def test_unknown_contrast_is_wrong_usage(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1n"])
    with pytest.raises(UsageError, match="--series pd=3: unknown contrast"):
        read_study(tmp_path / "S1", tmp_path / "work", {"pd": "3"})


def test_two_patients_in_a_study_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1n"])
    write_series(tmp_path / "S1" / "x", blob(5), AXIAL, SEQUENCES["t2f"] | {"PatientID": "PID-2"}, number=9)
    assert _refused(tmp_path / "S1") == "S1: holds 2 patients: put each into a folder of its own"


def test_two_examinations_in_a_study_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1n"])
    write_series(tmp_path / "S1" / "x", blob(5), AXIAL, SEQUENCES["t2f"], number=9, study="1.2.3.5")
    assert _refused(tmp_path / "S1") == "S1: holds 2 examinations: put each into a folder of its own"


def test_study_without_mr_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "S1", blob(1), AXIAL, SEQUENCES["t2w"] | {"Modality": "CT"})
    assert "holds no MR image" in _refused(tmp_path / "S1")


def test_truncated_slices_are_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "S1", blob(1), AXIAL, SEQUENCES["t2w"], number=5)
    for path in paths[5:9]:
        path.write_bytes(path.read_bytes()[:-400])
    assert "S1: series 5: " in _refused(tmp_path / "S1")


def test_damaged_files_are_told(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "S1", blob(1), AXIAL, SEQUENCES["t2w"], number=5)
    damaged = paths[0].read_bytes().replace(b"(\x00\x10\x00US\x02\x00", b"(\x00\x10\x00US\x01\x00")  # Rows
    (tmp_path / "S1" / "broken.dcm").write_bytes(damaged)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.scans["t2w"].source == "series 5, 14 slices"
    assert study.notes == ("1 DICOM files could not be read",)


def test_several_images_at_one_place_are_no_volume(tmp_path: Path) -> None:
    tags = SEQUENCES["t2w"] | {"SeriesInstanceUID": "1.2.3.9"}
    for i in range(2):
        write_series(tmp_path / "S1" / f"{i}", blob(i), AXIAL, tags, number=5)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("series 5 passed over (several images at one place)",)
    message = _refused(tmp_path / "S1", {"t2w": "5"})
    assert message == "S1: series 5 holds several images at one place, no volume: choose another one for t2w"


def test_slices_in_several_directions_are_no_volume(tmp_path: Path) -> None:
    tags = SEQUENCES["t2w"] | {"SeriesInstanceUID": "1.2.3.9"}
    for i, orientation in enumerate(("axial", "sagittal")):
        write_series(tmp_path / "S1" / f"{i}", blob(i), affine_of(orientation), tags, number=5)
    assert read_study(tmp_path / "S1", tmp_path / "work").notes == (
        "series 5 passed over (slices in several directions)",
    )


def test_slices_without_position_are_no_volume(tmp_path: Path) -> None:
    write_series(tmp_path / "S1", blob(1), AXIAL, SEQUENCES["t2w"], without=("ImagePositionPatient",))
    assert read_study(tmp_path / "S1", tmp_path / "work").notes == ("series 1 passed over (slices of unknown place)",)


def test_words_against_times_are_told(tmp_path: Path) -> None:
    write_series(tmp_path / "S1", blob(1), AXIAL, SEQUENCES["t2w"] | {"SeriesDescription": "t1 Mustermann"})
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("series 1 passed over (its name says T1, its echo and repetition times T2)",)


def test_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path / "S1", ["t2w"])
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"reading DICOM needs pydicom: pip install 'brats-opt\[prepare\]'"):
        read_study(tmp_path / "S1", tmp_path / "work")


def test_work_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t2w"])
    (tmp_path / "work").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        read_study(tmp_path / "S1", tmp_path / "work")
