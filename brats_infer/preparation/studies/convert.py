"""Converts one DICOM series to NIfTI with dcm2niix, and leaves nothing of the patient in the header."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.files.nifti import Volume, read_header, read_volume
from brats_infer.preparation.studies.headers import Series
from brats_infer.preparation.studies.packages import require
from model.atomic import write_atomically

TIMEOUT_S = 600
OPTIONS = ("-b", "n", "-z", "n", "-g", "i", "-f", "image")  # no side file, not packed, no defaults of the user


def convert(series: Series, target: Path, study: str) -> Volume:
    """Writes a series as NIfTI with a fresh header to `target`, and returns it.

    dcm2niix sees links to the files, not the patient's folder. Raises CaseError unless it makes one 3-D volume of all
    slices, OutputError if it cannot be written, UsageError without dcm2niix.
    """
    require("dcm2niix", "converting DICOM")
    named = f"{study}: {series.title}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="dcm2niix-", dir=target.parent) as made:
            volume = _checked(_run(series.files, Path(made), named), series, named)
        image = nib.Nifti1Image(volume.data, volume.geometry.affine)
        image.set_qform(volume.geometry.affine, code="scanner")
        image.set_sform(volume.geometry.affine, code="scanner")
        image.header.set_xyzt_units("mm")
        write_atomically(target, image.to_bytes())
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror}): free some space or choose another folder"
        ) from error
    return volume


def _run(files: Sequence[Path], folder: Path, named: str) -> list[Path]:
    """The NIfTI files that dcm2niix makes of DICOM files. Its own messages may hold the patient's name."""
    import dcm2niix

    source, made = folder / "dicom", folder / "nifti"
    source.mkdir()
    made.mkdir()
    for i, path in enumerate(files):
        (source / f"{i:06}.dcm").symlink_to(path.resolve())
    command = [str(dcm2niix.bin), *OPTIONS, "-o", str(made), str(source)]
    try:
        subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603  # no shell
    except subprocess.TimeoutExpired:
        raise CaseError(f"{named}: dcm2niix took more than {TIMEOUT_S} s: check the series") from None
    except OSError as error:
        raise UsageError(f"{command[0]}: cannot be started ({error.strerror}): install dcm2niix again") from error
    return sorted(made.glob("*.nii"))


def _checked(paths: Sequence[Path], series: Series, named: str) -> Volume:
    """The only volume that was made. Raises CaseError."""
    if not paths:
        raise CaseError(f"{named}: dcm2niix cannot convert it: truncated or damaged, export it again")
    shapes = [read_header(path).get_data_shape() for path in paths]
    if len(paths) > 1 or any(side != 1 for side in shapes[0][3:]):
        raise CaseError(f"{named}: holds several volumes: choose another one with --series")
    try:
        volume = read_volume(paths[0])
    except CaseError:  # it names a temporary file
        raise CaseError(f"{named}: dcm2niix makes no sound image of it: export it again") from None
    if volume.data.size != series.voxels:
        raise CaseError(
            f"{named}: {volume.data.size} voxels came of {series.voxels}: truncated or damaged, export it again"
        )
    return volume
