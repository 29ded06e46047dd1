"""DICOM Segmentations over a series: their voxels in the world, the images they name, and who can read them."""

import subprocess
from pathlib import Path

import dcm2niix
import highdicom
import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray
from pydicom import config

from brats_infer.errors import CaseError, OutputError
from brats_infer.preparation.dicom_segmentation import write_segmentation
from brats_infer.preparation.studies.study import Scan, read_study
from tests.preparation.dicom_series import PATIENT, SEQUENCES, affine_of, blob, write_enhanced, write_series
from tests.preparation.scans import brain_image
from tests.preparation.test_prepare_command import brats_opt

NAMES = {1: "NCR", 2: "ED", 4: "ET"}


def _scan(tmp_path: Path, orientation: str = "axial", without: tuple[str, ...] = ()) -> Scan:
    write_series(tmp_path / "S1", blob(3), affine_of(orientation), SEQUENCES["t2w"], number=9, without=without)
    return read_study(tmp_path / "S1", tmp_path / "work").scans["t2w"]


def _labels(scan: Scan) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Random labels on the grid of a converted scan, without symmetry."""
    image = nib.load(scan.image)
    labels = np.random.default_rng(5).choice(np.array([0, 0, 0, 1, 2, 4], np.uint8), image.shape)
    labels[:4] = 0
    return labels, image.affine


def _places(affine: NDArray[np.float64], voxels: NDArray[np.bool_]) -> set[tuple[float, ...]]:
    """The centres of a mask's voxels in mm, to 0.01 mm."""
    indices = np.argwhere(voxels)
    return {tuple(place) for place in np.round(indices @ affine[:3, :3].T + affine[:3, 3], 2) + 0.0}


@pytest.mark.parametrize("orientation", ["axial", "axial from above", "sagittal", "coronal", "oblique"])
def test_each_segment_lies_where_its_label_is(tmp_path: Path, orientation: str) -> None:
    scan = _scan(tmp_path, orientation)
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, NAMES)
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [read.get_segment_description(n).segment_label for n in (1, 2, 3)] == list(NAMES.values())
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number, label in enumerate(NAMES, start=1):
        volume = read.get_volume(segment_numbers=[number], combine_segments=True)
        assert _places(lps_to_ras @ volume.affine, volume.array > 0) == _places(affine, labels == label)


def test_codes_are_those_of_the_field(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, NAMES | {3: "RC"})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    codes = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in dataset.SegmentSequence]
    assert [(code.CodeValue, code.CodingSchemeDesignator) for code in codes] == [
        ("6574001", "SCT"),
        ("79654002", "SCT"),
        ("49755003", "SCT"),
        ("C113842", "NCIt"),
    ]


def test_it_names_the_patient_and_the_images_of_the_series(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, NAMES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    images = [pydicom.dcmread(path) for path in scan.dicom]
    assert (dataset.PatientName, dataset.PatientID) == (PATIENT["PatientName"], PATIENT["PatientID"])
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) == (
        images[0].StudyInstanceUID,
        images[0].FrameOfReferenceUID,
    )
    named = dataset.ReferencedSeriesSequence[0]
    assert named.SeriesInstanceUID == images[0].SeriesInstanceUID != dataset.SeriesInstanceUID
    assert {each.ReferencedSOPInstanceUID for each in named.ReferencedInstanceSequence} == {
        image.SOPInstanceUID for image in images
    }


def test_dcm2niix_reads_the_same_mask(tmp_path: Path) -> None:
    scan = _scan(tmp_path, "oblique")
    labels, affine = _labels(scan)
    mask = (labels == 2).astype(np.uint8)
    for name in ("one", "read"):
        (tmp_path / name).mkdir()
    write_segmentation(tmp_path / "one" / "seg.dcm", mask, affine, scan.dicom, {1: "ED"})
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "seg", "-o", tmp_path / "read", tmp_path / "one"]
    subprocess.run(command, check=True, capture_output=True)
    read = nib.load(next((tmp_path / "read").glob("*.nii")))
    assert _places(np.round(read.affine, 4), np.asarray(read.dataobj) > 0) == _places(np.round(affine, 4), mask > 0)


def test_empty_map_is_written(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels * 0, affine, scan.dicom, NAMES)
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert read.number_of_segments == 3
    assert not read.pixel_array.any()


def test_missing_tags_of_the_patient_stay_empty(tmp_path: Path) -> None:
    scan = _scan(
        tmp_path, without=("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
    )
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, NAMES)
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == ""


def test_map_on_another_grid_is_refused(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    moved = affine.copy()
    moved[:3, 3] += 0.2 * affine[:3, 0]
    with pytest.raises(CaseError, match=r"seg\.dcm: the series is not on the grid of the label map"):
        write_segmentation(tmp_path / "seg.dcm", labels, moved, scan.dicom, NAMES)
    assert not (tmp_path / "seg.dcm").exists()


def test_labelled_voxels_outside_the_series_are_refused(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    with pytest.raises(CaseError, match="does not cover all labelled voxels"):
        write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom[2:], NAMES)


def test_label_without_a_name_is_refused(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    with pytest.raises(CaseError, match="label 4 has no name"):
        write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, {1: "NCR", 2: "ED"})


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    scan = _scan(tmp_path)
    labels, affine = _labels(scan)
    with pytest.raises(OutputError, match="cannot be written"):
        write_segmentation(tmp_path / "work" / "S1-t2w.nii" / "seg.dcm", labels, affine, scan.dicom, NAMES)


def test_segmentation_of_an_enhanced_image_lies_where_its_labels_are(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "S1" / "IM1", blob(3), affine_of("oblique"), SEQUENCES["t2w"])
    scan = read_study(tmp_path / "S1", tmp_path / "work").scans["t2w"]
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, NAMES)
    volume = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume(segment_numbers=[2], combine_segments=True)
    in_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    assert _places(in_ras, volume.array > 0) == _places(affine, labels == 2)


def test_damaged_tags_of_the_patient_are_left_empty(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = {"PatientSex": "weiblich", "PatientBirthDate": "24.12.61", "PatientName": "Mustermann"}
    with config.disable_value_validation():
        write_series(tmp_path / "S1", blob(3), affine_of("axial"), SEQUENCES["t2w"] | damaged)
    capfd.readouterr()
    scan = read_study(tmp_path / "S1", tmp_path / "work").scans["t2w"]
    labels, affine = _labels(scan)
    write_segmentation(tmp_path / "seg.dcm", labels, affine, scan.dicom, NAMES)
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (dataset.PatientSex, dataset.PatientBirthDate, dataset.PatientName) == ("", "", "Mustermann")
    assert capfd.readouterr() == ("", "")


def test_commands_write_a_segmentation_over_the_series_of_the_study(tmp_path: Path) -> None:
    brain = sitk.GetArrayFromImage(brain_image()).T[:, ::-1]
    affine = affine_of("axial", brain.shape, (2.0, 2.0, 2.0))
    files = write_series(tmp_path / "studies" / "one" / "x", brain.astype(np.uint16), affine, SEQUENCES["t1c"])
    cases, studies = tmp_path / "cases", tmp_path / "studies"
    run = brats_opt("prepare", "--input", studies, "--out", cases, "--atlas", "none", "--missing", "use")
    assert run.returncode == 0, run.stderr
    case = nib.load(cases / "one" / "one-t1c.nii.gz")
    labels = np.zeros(case.shape, np.uint8)
    labels[80:110, 90:120, 70:100] = 2
    labels[90:100, 100:110, 80:90] = 3
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(labels, case.affine), tmp_path / "labels" / "one.nii.gz")
    arguments = ("--labels", tmp_path / "labels", "--prepared", cases, "--out", tmp_path / "native", "--task", "gli")
    run = brats_opt("restore", *arguments, "--dicom-seg", studies)
    assert run.returncode == 0, run.stderr
    read = highdicom.seg.segread(tmp_path / "native" / "one" / "one-on-t1c.dcm")
    named = {each.ReferencedSOPInstanceUID for each in read.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named <= {pydicom.dcmread(file).SOPInstanceUID for file in files}
    native = nib.load(tmp_path / "native" / "one" / "one-on-t1c.nii.gz")
    values, lps_to_ras = np.asarray(native.dataobj), np.diag([-1.0, -1.0, 1.0, 1.0])
    for number, label in ((2, 2), (3, 3)):
        volume = read.get_volume(segment_numbers=[number], combine_segments=True)
        assert _places(lps_to_ras @ volume.affine, volume.array > 0) == _places(native.affine, values == label)
    assert np.count_nonzero(values) * 8 == pytest.approx(np.count_nonzero(labels), rel=0.03)
