"""Writes volumes as DICOM series of a scanner, with the tags and the faults that a test asks for."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SHAPE = (20, 18, 14)
SPACING = (9.0, 10.0, 11.0)
PATIENT = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "PID-0815",
    "PatientBirthDate": "19611224",
    "PatientSex": "F",
    "AccessionNumber": "ACC4711",
    "ReferringPhysicianName": "Quacksalber^Hans",
    "InstitutionName": "Klinikum Musterstadt",
    "PatientComments": "Mustermann, Erika",
    "ImageComments": "Mustermann 24.12.1961",
    "StudyDescription": "Mustermann Kopf",
    "StudyDate": "20240229",
    "StudyTime": "101500",
    "SeriesDate": "20240229",
    "AcquisitionDate": "20240229",
    "ContentDate": "20240229",
    "StudyID": "77123",
}
SECRETS = ("mustermann", "erika", "pid-0815", "19611224", "1961", "acc4711", "quacksalber", "musterstadt", "20240229")
"""Words of the patient, in lower case, that no output may hold."""
AXES = {
    "axial": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "axial from above": ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "sagittal": ((0, -1, 0), (0, 0, -1), (1, 0, 0)),
    "coronal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
    "oblique": ((0.96, 0.28, 0), (0.28 * 0.8, -0.96 * 0.8, -0.6), (0.28 * 0.6, -0.96 * 0.6, 0.8)),
}
"""{orientation: directions of columns, rows and slices} in NIfTI's coordinates (right, front, up)."""
SEQUENCES: dict[str, dict[str, Any]] = {
    "t1n": {"SeriesDescription": "t1_mprage_sag", "EchoTime": 2.9, "RepetitionTime": 2300.0, "InversionTime": 900.0},
    "t1c": {"SeriesDescription": "t1_mprage_sag_KM", "EchoTime": 2.9, "RepetitionTime": 2300.0, "InversionTime": 900.0},
    "t2w": {"SeriesDescription": "t2_tse_tra", "EchoTime": 95.0, "RepetitionTime": 5000.0},
    "t2f": {"SeriesDescription": "t2_tirm_tra_dark-fluid", "EchoTime": 110.0, "RepetitionTime": 9000.0},
}
SEQUENCES["t1n"] |= {"ScanningSequence": ["GR", "IR"], "FlipAngle": 9.0}
SEQUENCES["t1c"] |= {"ScanningSequence": ["GR", "IR"], "FlipAngle": 9.0, "ContrastBolusAgent": "Gadovist 7.5 ml"}
SEQUENCES["t2w"] |= {"ScanningSequence": "SE"}
SEQUENCES["t2f"] |= {"ScanningSequence": ["SE", "IR"], "InversionTime": 2500.0}
"""{contrast: tags} of a usual protocol."""


def affine_of(
    orientation: str, shape: tuple[int, int, int] = SHAPE, spacing: tuple[float, float, float] = SPACING
) -> NDArray[np.float64]:
    """(4, 4) voxel (column, row, slice) to mm, with the volume's centre near the origin."""
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack(AXES[orientation]) * spacing
    affine[:3, 3] = (3.5, -7.25, 11.0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def blob(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint16]:
    """(columns, rows, slices): a volume without symmetry, with other values for another seed."""
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 900, shape) + np.indices(shape).sum(axis=0) * 20).astype(np.uint16)


def write_series(
    folder: Path,
    volume: NDArray[Any],
    affine: NDArray[np.float64],
    tags: Mapping[str, Any],
    number: int = 1,
    study: str = "1.2.3.4",
    without: Collection[str] = (),
    skipped: Collection[int] = (),
    suffix: str = ".dcm",
) -> list[Path]:
    """Writes a volume (columns, rows, slices), of which slice k lies at `affine`, as MR images; returns their files.

    `without` are tags that are missing, `skipped` slices that are. The file names do not follow the slices' order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid, frame = generate_uid(), generate_uid()
    paths = []
    for k in range(volume.shape[2]):
        if k in skipped:
            continue
        path = folder / f"IM{number:03}{(k * 7) % 997:03}{suffix}"
        image = _image(path, volume[:, :, k], affine, k)
        image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID = uid, study, frame
        image.SeriesNumber, image.InstanceNumber = number, k + 1
        for keyword, value in {**PATIENT, "AcquisitionTime": f"10{number:02}00.5", **tags}.items():
            setattr(image, keyword, value)
        for keyword in without:
            delattr(image, keyword)
        block = image.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", b"Mustermann^Erika 19611224")
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_enhanced(path: Path, volume: NDArray[Any], affine: NDArray[np.float64], tags: Mapping[str, Any]) -> None:
    """Writes a volume (columns, rows, slices) as one enhanced (multi-frame) MR image, its slices in falling order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [_image(path, volume[:, :, k], affine, k) for k in reversed(range(volume.shape[2]))]
    image = frames[0]
    pixels = b"".join(frame.PixelData for frame in frames)
    image.PerFrameFunctionalGroupsSequence = [_frame_groups(frame, i) for i, frame in enumerate(frames, start=1)]
    image.SharedFunctionalGroupsSequence = [_shared_groups(image, tags)]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(image, keyword)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    image.NumberOfFrames, image.PixelData, image.SeriesNumber = len(frames), pixels, 1
    image.SeriesInstanceUID, image.StudyInstanceUID = generate_uid(), generate_uid()
    image.FrameOfReferenceUID, image.SeriesDescription = generate_uid(), tags["SeriesDescription"]
    for keyword, value in PATIENT.items():
        setattr(image, keyword, value)
    image.save_as(path, enforce_file_format=True)


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def _frame_groups(frame: Dataset, number: int) -> Dataset:
    position = _item(ImagePositionPatient=frame.ImagePositionPatient)
    content = _item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number])
    return _item(PlanePositionSequence=[position], FrameContentSequence=[content])


def _shared_groups(image: Dataset, tags: Mapping[str, Any]) -> Dataset:
    measures = _item(PixelSpacing=image.PixelSpacing, SliceThickness=image.SliceThickness)
    timing = _item(RepetitionTime=tags["RepetitionTime"], FlipAngle=90.0)
    return _item(
        PlaneOrientationSequence=[_item(ImageOrientationPatient=image.ImageOrientationPatient)],
        PixelMeasuresSequence=[measures],
        MRTimingAndRelatedParametersSequence=[timing],
        MREchoSequence=[_item(EffectiveEchoTime=tags["EchoTime"])],
        MRImageFrameTypeSequence=[_item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
    )


def write_study(folder: Path, contrasts: Collection[str] = ("t1n", "t1c", "t2w", "t2f")) -> dict[str, NDArray[Any]]:
    """Writes series 3 to 6, axial and each with voxels of its own; returns {contrast: affine}."""
    affines = {}
    for i, contrast in enumerate(SEQUENCES):
        if contrast in contrasts:
            affines[contrast] = affine_of("axial")
            write_series(folder / f"{i}", blob(i), affines[contrast], SEQUENCES[contrast], number=3 + i)
    return affines


def _image(path: Path, pixels: NDArray[Any], affine: NDArray[np.float64], k: int) -> Dataset:
    """One slice (columns, rows) of classic MR Image Storage."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    image.Modality, image.Manufacturer, image.MRAcquisitionType = "MR", "SIEMENS", "2D"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    steps = np.linalg.norm(lps[:, :3], axis=0)
    directions = lps[:, :3] / steps
    image.ImagePositionPatient = [f"{v:.6f}" for v in lps @ (0, 0, k, 1)]
    image.ImageOrientationPatient = [f"{v:.8f}" for v in (*directions[:, 0], *directions[:, 1])]
    image.PixelSpacing = [f"{steps[1]:.6f}", f"{steps[0]:.6f}"]  # between rows, between columns
    image.SliceThickness = image.SpacingBetweenSlices = f"{steps[2]:.6f}"
    image.Columns, image.Rows = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = np.ascontiguousarray(pixels.T, "<u2").tobytes()
    return image
