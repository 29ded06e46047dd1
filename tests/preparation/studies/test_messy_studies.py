"""The right four series out of everything that a scanner exports, and nothing of the patient in what comes out."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from brats_infer.preparation.studies.study import Scan, Study, read_study
from tests.preparation.dicom_series import (
    SECRETS,
    SEQUENCES,
    SHAPE,
    affine_of,
    blob,
    write_enhanced,
    write_series,
    write_study,
)

SMALL = (10, 9, 14)


def _add(study: Path, number: int, tags: dict[str, Any], shape: tuple[int, int, int] = SHAPE, **how: Any) -> None:
    volume = blob(100 + number, shape)
    write_series(study / f"more{number}", volume, affine_of("axial", shape), tags, number=number, **how)


def _assert_same(scan: Scan, volume: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """The image has each voxel of a volume (columns, rows, slices) at its place in the world, and no others."""
    image = nib.load(scan.image)
    assert sorted(image.shape) == sorted(volume.shape)
    indices = np.indices(volume.shape).reshape(3, -1)
    places = affine @ np.vstack([indices, np.ones(indices.shape[1])])
    voxels = (np.linalg.inv(image.affine) @ places)[:3]
    nearest = np.rint(voxels).astype(int)
    assert np.abs(voxels - nearest).max() < 1e-3
    assert np.array_equal(np.asarray(image.dataobj)[tuple(nearest)], volume[tuple(indices)])


def _said(study: Study) -> str:
    """Everything that leaves the program, in lower case."""
    scans = study.scans.values()
    texts = [*study.notes, *(scan.source for scan in scans), *(scan.image.name for scan in scans)]
    return "\n".join([*texts, *(scan.image.read_bytes().decode("latin-1") for scan in scans)]).lower()


def test_four_contrasts_keep_their_voxels_in_the_world(tmp_path: Path) -> None:
    affines = write_study(tmp_path / "S1")
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.name == "S1"
    assert list(study.scans) == ["t1n", "t1c", "t2w", "t2f"]
    assert study.notes == ()
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == sorted(f"S1-{f}.nii" for f in affines)
    for i, (contrast, scan) in enumerate(study.scans.items()):
        assert scan.source == f"series {3 + i}, 14 slices"
        assert scan.image.parent == tmp_path / "work"
        _assert_same(scan, blob(i), affines[contrast])


@pytest.mark.parametrize("orientation", ["axial from above", "sagittal", "coronal", "oblique"])
def test_any_orientation_keeps_its_voxels_in_the_world(tmp_path: Path, orientation: str) -> None:
    affine = affine_of(orientation)
    paths = write_series(tmp_path / "S1", blob(7), affine, SEQUENCES["t2w"])
    scan = read_study(tmp_path / "S1", tmp_path / "work").scans["t2w"]
    _assert_same(scan, blob(7), affine)
    assert scan.dicom in (tuple(paths), tuple(reversed(paths)))  # slice order, from either end


def test_everything_else_in_the_study_is_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "S1"
    write_study(root)
    _add(root, 1, {"SeriesDescription": "AAHead_Scout", "EchoTime": 2.0})
    _add(root, 2, SEQUENCES["t1n"] | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    _add(root, 10, SEQUENCES["t1c"], SMALL)
    _add(root, 11, SEQUENCES["t2w"] | {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]})
    _add(root, 12, {"SeriesDescription": "ep2d_diff_b1000", "EchoTime": 90.0, "RepetitionTime": 6000.0})
    _add(root, 13, SEQUENCES["t2w"], skipped=range(5, 8))
    _add(root, 14, {"SeriesDescription": "t2_fl2d_tra_hemo", "EchoTime": 20.0, "ScanningSequence": "GR"})
    _add(root, 15, {"SeriesDescription": "TOF_3D", "EchoTime": 3.4, "RepetitionTime": 22.0, "ScanningSequence": "GR"})
    _add(root, 16, SEQUENCES["t1c"], skipped=range(4, 14))
    _add(root, 17, {"SeriesDescription": "Mustermann Sonderwunsch"})
    _add(root, 18, SEQUENCES["t2w"] | {"Modality": "CT"})
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (root / "report.txt").write_text("Mustermann")
    study = read_study(root, tmp_path / "work")
    sources = {contrast: scan.source for contrast, scan in study.scans.items()}
    assert sources == {f: f"series {3 + i}, 14 slices" for i, f in enumerate(("t1n", "t1c", "t2w", "t2f"))}
    assert study.notes == (
        "series 1 passed over (a localizer)",
        "series 2 passed over (a localizer, a map or a projection)",
        "series 11 passed over (a localizer, a map or a projection)",
        "series 12 passed over (diffusion)",
        "series 14 passed over (susceptibility or T2*)",
        "series 15 passed over (angiography)",
        "series 16 passed over (4 slices, fewer than 10)",
        "series 17 passed over (its header tells no contrast)",
        "t1c: series 10 passed over for series 4 (fewer voxels)",
        "t2w: series 13 passed over for series 5 (lacks 3 slices: 44 mm between slices 5 and 6, 11 mm elsewhere)",
    )
    assert not [secret for secret in SECRETS if secret in _said(study)]


def test_headers_without_times_are_told_by_their_words(tmp_path: Path) -> None:
    root = tmp_path / "S1"
    missing = ("StudyInstanceUID", "PatientID", "ImageType", "AcquisitionTime")
    for i, tags in enumerate(SEQUENCES.values()):
        words = {"SeriesDescription": tags["SeriesDescription"]}
        write_series(root, blob(i), affine_of("axial"), words, number=i, without=missing)
    assert list(read_study(root, tmp_path / "work").scans) == list(SEQUENCES)


def test_headers_without_words_are_told_by_their_times(tmp_path: Path) -> None:
    root = tmp_path / "S1"
    for i, tags in enumerate(SEQUENCES.values()):
        write_series(root, blob(i), affine_of("axial"), tags, number=i, without=("SeriesDescription",))
    sources = {contrast: scan.source for contrast, scan in read_study(root, tmp_path / "work").scans.items()}
    assert sources == {contrast: f"series {i}, 14 slices" for i, contrast in enumerate(SEQUENCES)}


def test_missing_contrasts_are_left_out(tmp_path: Path) -> None:
    write_study(tmp_path / "S1", ["t1c", "t2f"])
    assert list(read_study(tmp_path / "S1", tmp_path / "work").scans) == ["t1c", "t2f"]


def test_series_that_covers_the_head_wins_over_one_with_more_voxels(tmp_path: Path) -> None:
    root = tmp_path / "S1"
    _add(root, 1, SEQUENCES["t2w"], SMALL)
    write_series(root / "x", blob(2), affine_of("axial", spacing=(1.0, 1.0, 1.0)), SEQUENCES["t2w"], number=2)
    study = read_study(root, tmp_path / "work")
    assert study.scans["t2w"].source == "series 1, 14 slices"
    assert study.notes == ("t2w: series 2 passed over for series 1 (covers 14 mm of the head)",)


def test_whole_half_of_a_head_loses_against_the_whole(tmp_path: Path) -> None:
    _add(tmp_path / "S1", 1, SEQUENCES["t2w"], SMALL)
    half, affine = blob(2, (20, 18, 25)), affine_of("axial", spacing=(9.0, 10.0, 4.5))
    write_series(tmp_path / "S1" / "x", half, affine, SEQUENCES["t2w"], number=2)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t2w: series 2 passed over for series 1 (covers 112 mm of the head)",)


def test_corrected_images_win_over_the_same_uncorrected_ones(tmp_path: Path) -> None:
    _add(tmp_path / "S1", 1, SEQUENCES["t2w"] | {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]})
    _add(tmp_path / "S1", 2, SEQUENCES["t2w"] | {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"]})
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t2w: series 1 passed over for series 2 (fewer of the scanner's corrections)",)


def test_silent_t1_after_the_agent_is_not_taken_for_native(tmp_path: Path) -> None:
    _add(tmp_path / "S1", 4, SEQUENCES["t1c"])
    _add(tmp_path / "S1", 9, SEQUENCES["t1n"] | {"SeriesDescription": "t1_tse_cor"})
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert list(study.scans) == ["t1c"]
    assert study.notes == (
        "t1n: series 9 passed over (scanned after series 4, which has the contrast agent; --series t1n=9 takes it)",
    )


def test_t1_that_is_called_native_wins_over_a_larger_silent_one(tmp_path: Path) -> None:
    _add(tmp_path / "S1", 4, SEQUENCES["t1n"])
    _add(tmp_path / "S1", 5, SEQUENCES["t1n"] | {"SeriesDescription": "T1 tra nativ"}, SMALL)
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t1n: series 4 passed over for series 5 (nothing says that it is without contrast agent)",)


def test_silent_t1_before_the_agent_is_native(tmp_path: Path) -> None:
    _add(tmp_path / "S1", 4, SEQUENCES["t1n"])
    _add(tmp_path / "S1", 5, SEQUENCES["t1n"] | {"SeriesDescription": "T1 tra nativ"}, SMALL)
    _add(tmp_path / "S1", 6, SEQUENCES["t1c"])
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t1n: series 5 passed over for series 4 (fewer voxels)",)


def test_flair_before_the_agent_wins_over_the_same_after_it(tmp_path: Path) -> None:
    _add(tmp_path / "S1", 4, SEQUENCES["t2f"] | {"ContrastBolusAgent": "Gadovist"})
    _add(tmp_path / "S1", 5, SEQUENCES["t2f"])
    study = read_study(tmp_path / "S1", tmp_path / "work")
    assert study.notes == ("t2f: series 4 passed over for series 5 (scanned with contrast agent)",)


def test_file_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "S1", blob(1), affine_of("axial"), SEQUENCES["t2w"])
    (tmp_path / "S1" / "copy").mkdir()
    for path in paths:
        (tmp_path / "S1" / "copy" / path.name).write_bytes(path.read_bytes())
    assert read_study(tmp_path / "S1", tmp_path / "work").scans["t2w"].source == "series 1, 14 slices"


def test_echoes_of_one_series_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "S1"
    uid = {"SeriesInstanceUID": "1.2.3.77", "SeriesDescription": "", "RepetitionTime": 3500.0}
    volumes = {"1": blob(1), "2": blob(2)}
    for echo, te in (("1", 14.0), ("2", 95.0)):
        tags = uid | {"EchoNumbers": echo, "EchoTime": te}
        write_series(root / echo, volumes[echo], affine_of("axial"), tags, number=5)
    study = read_study(root, tmp_path / "work")
    assert {contrast: scan.source for contrast, scan in study.scans.items()} == {"t2w": "series 5b, 14 slices"}
    _assert_same(study.scans["t2w"], volumes["2"], affine_of("axial"))


def test_enhanced_image_keeps_its_voxels_in_the_world(tmp_path: Path) -> None:
    affine = affine_of("oblique")
    write_enhanced(tmp_path / "S1" / "IM1", blob(1), affine, SEQUENCES["t2w"])
    scan = read_study(tmp_path / "S1", tmp_path / "work").scans["t2w"]
    assert (scan.source, scan.dicom) == ("series 1, 14 slices", (tmp_path / "S1" / "IM1",))
    _assert_same(scan, blob(1), affine)
