"""Writes a label map as a DICOM Segmentation over the series that it was made of."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_infer import __version__
from brats_infer.errors import CaseError, OutputError
from brats_infer.files.geometry import SLIGHT
from brats_infer.preparation.studies.headers import DAMAGED, planes_of
from brats_infer.preparation.studies.packages import quiet, require
from brats_infer.preparation.studies.planes import Plane
from model.atomic import write_atomically

NECROSIS = ("6574001", "SCT", "Necrosis")
EDEMA = ("79654002", "SCT", "Edema")
ENHANCING = ("C113842", "NCIt", "Enhancing Lesion")
ABNORMAL = ("49755003", "SCT", "Morphologically Abnormal Structure")
CODES = {
    "NCR": NECROSIS,
    "NETC": NECROSIS,
    "ED": EDEMA,
    "SNFH": EDEMA,
    "ET": ENHANCING,
    "NET": ("C81175", "NCIt", "Non-Enhancing Lesion"),
    "CC": ("367643001", "SCT", "Cyst"),
    "GTV": ("228791009", "SCT", "Gross tumor volume"),
}
"""{label's name: its code}, as in the Segmentations of TCGA-GBM and TCGA-LGG. Other labels are `ABNORMAL`."""
COLOURS = ((220, 50, 47), (133, 190, 60), (250, 200, 40), (60, 130, 220))
ARTIFICIAL_INTELLIGENCE = ("123110", "DCM", "Artificial Intelligence")
BRAIN = ("12738006", "SCT", "Brain")
SERIES_NUMBER_STEP = 1000  # added to that of the series
TEXT_TAGS = ("PatientName", "PatientID", "AccessionNumber", "StudyID")
SEXES = ("M", "F", "O")


def write_segmentation(
    path: Path,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    series: Sequence[Path],
    names: Mapping[int, str],
) -> None:
    """Writes labels (X, Y, Z) as a binary DICOM Segmentation with one segment for each of `names`, atomically.

    `affine` (4, 4) maps voxel indices to mm (RAS), on the grid of `series` in any axis order. `names` is
    {label: short name}, for example {1: "NCR"}. The file names the patient, the study and the images, as the series
    does: a viewer lays it over them. Keep it where the series may be kept.
    Raises CaseError if the grid is not that of the series, or if a label has no name; OutputError if the file cannot be
    written; UsageError without pydicom and highdicom.
    """
    if not series:
        raise CaseError(f"{path.name}: no DICOM series is known for it: a DICOM Segmentation needs one")
    for package in ("pydicom", "highdicom"):
        require(package, "a DICOM Segmentation")
    sources = [_read(file) for file in series]
    in_order = sorted(names)
    segments = np.zeros(256, np.uint8)
    segments[in_order] = np.arange(1, len(in_order) + 1)
    pixels = segments[_pixels(path, labels, affine, sources, names)]
    stream = BytesIO()
    try:
        with quiet():
            _segmentation(sources, pixels, [names[label] for label in in_order]).save_as(stream)
    except DAMAGED:  # the error's text may hold the patient's data
        raise CaseError(
            f"{path.name}: the series' headers do not suffice for a DICOM Segmentation: export the series again"
        ) from None
    try:
        write_atomically(path, stream.getvalue())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}): free some space or choose another folder"
        ) from error


def _read(file: Path) -> Any:
    """A header, in which missing and invalid tags of the patient and the study are empty. Raises CaseError."""
    from pydicom import dcmread
    from pydicom.valuerep import DA, TM

    try:
        with quiet():
            dataset = dcmread(file, stop_before_pixels=True, force=True)
            for keyword in TEXT_TAGS:
                setattr(dataset, keyword, dataset.get(keyword, ""))
            if dataset.get("PatientSex") not in SEXES:
                dataset.PatientSex = ""
            for keyword, kind in {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}.items():
                setattr(dataset, keyword, _valid(kind, dataset.get(keyword)))
    except (*DAMAGED, OSError):  # the error's text may hold the patient's data
        raise CaseError(f"{file}: cannot be read as DICOM: export the series again") from None
    return dataset


def _valid(kind: Callable[[Any], Any], value: Any) -> Any:
    """A date or time; None unless it is one."""
    try:
        return kind(value) if value else None
    except ValueError:
        return None


def _pixels(
    path: Path,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    sources: Sequence[Any],
    names: Mapping[int, str],
) -> NDArray[np.uint8]:
    """(frames, rows, columns) labels of the series' pixels. Raises CaseError if a voxel is lost or nameless."""
    unnamed = sorted(set(np.unique(labels).tolist()) - {0, *names})
    if unnamed:
        raise CaseError(f"{path.name}: label {unnamed[0]} has no name: give one for each label")
    sizes = [(int(source.Rows), int(source.Columns)) for source in sources]
    if len(set(sizes)) > 1:
        raise CaseError(f"{path.name}: the series' slices differ in size: give the series of this grid")
    planes = [plane for source in sources for plane in planes_of(source)]
    pixels = np.stack([_frame(path, labels, affine, sizes[0], plane) for plane in planes])
    if np.count_nonzero(pixels) != np.count_nonzero(labels):
        raise CaseError(f"{path.name}: the series does not cover all labelled voxels: give the series of this grid")
    return pixels


def _frame(
    path: Path,
    labels: NDArray[np.uint8],
    affine: NDArray[np.float64],
    size: tuple[int, int],
    plane: Plane | None,
) -> NDArray[np.uint8]:
    """(rows, columns) labels of a slice's pixels. Raises CaseError unless each pixel is a voxel of the grid."""
    other = f"{path.name}: the series is not on the grid of the label map: give the series that it was made of"
    if plane is None:
        raise CaseError(other)
    rows, columns = np.indices(size)
    pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)])
    inverse = np.linalg.inv(affine)
    voxels = inverse[:3, :3] @ plane.pixel_to_ras @ pixels + inverse[:3, 3:]
    nearest = np.rint(voxels).astype(int)
    inside = (nearest >= 0).all() and (nearest.max(axis=1) < labels.shape).all()
    if not inside or np.abs(voxels - nearest).max() > SLIGHT:
        raise CaseError(other)
    frame: NDArray[np.uint8] = labels[tuple(nearest)].reshape(size)
    return frame


def _segmentation(sources: Sequence[Any], pixels: NDArray[np.uint8], names: Sequence[str]) -> Any:
    """The dataset of pixels (frames, rows, columns), which hold segment numbers."""
    import highdicom
    from pydicom.uid import generate_uid

    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(number, name) for number, name in enumerate(names, start=1)],
        series_instance_uid=generate_uid(),
        series_number=SERIES_NUMBER_STEP + int(sources[0].get("SeriesNumber") or 0),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="brats-opt",
        manufacturer_model_name="brats-opt",
        software_versions=__version__,
        device_serial_number="none",
        omit_empty_frames=bool(pixels.any()),
        content_label="BRAIN_TUMOR",
        series_description="Brain tumor segmentation, not for diagnosis",
    )


def _description(number: int, name: str) -> Any:
    """The segment of a label."""
    import highdicom
    from highdicom.color import CIELabColor
    from pydicom.sr.coding import Code

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=Code(*ABNORMAL),
        segmented_property_type=Code(*CODES.get(name, ABNORMAL)),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="brats-opt", version=__version__, family=Code(*ARTIFICIAL_INTELLIGENCE)
        ),
        anatomic_regions=[Code(*BRAIN)],
        display_color=CIELabColor.from_rgb(*COLOURS[(number - 1) % len(COLOURS)]),
    )
