"""The one file that touches NIfTI: a read that verifies, a write that is whole or not at all."""

import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
from isal import igzip, igzip_lib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from brats_infer.errors import CaseError, OutputError
from model.atomic import write_atomically

MAX_VOXELS = 512**3  # 1 mm whole heads are 256^3; beyond this, four float32 volumes would not fit beside a network
MAX_NONFINITE = 0.01  # share of NaN or Inf voxels that may be replaced by 0
AFFINE_TOLERANCE = 1e-3  # mm, between the modalities of a case
GEOMETRY_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
ISAL_ERROR = cast(type[Exception], igzip_lib.error)  # typed as an instance in the package's stub
READ_ERRORS = (OSError, EOFError, zlib.error, ISAL_ERROR)


@dataclass(frozen=True)
class Geometry:
    """Where an array lies in the world, with every header field that says so."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    """(4, 4), voxel indices to mm; the sform where there is one."""
    fields: dict[str, Any]
    """Raw qform and sform fields, pixdim[0:4] and the units, written back as they were."""

    @classmethod
    def of_affine(cls, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> "Geometry":
        """A grid that no file brought along: scanner coordinates, sform and qform alike."""
        header = nib.Nifti1Image(np.empty(shape, np.uint8), affine).header
        header.set_qform(affine, code="scanner")
        header.set_sform(affine, code="scanner")
        header.set_xyzt_units("mm")
        return cls(shape, np.asarray(affine, np.float64), _raw_fields(header))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in mm, from the affine (pixdim may disagree with it)."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(x), float(y), float(z)

    @property
    def voxel_mm3(self) -> float:
        return float(np.prod(self.spacing))


@dataclass(frozen=True)
class Volume:
    """One 3-D image: float32 data (X, Y, Z), all finite, with its geometry and what was odd about the file."""

    data: NDArray[np.float32]
    geometry: Geometry
    warnings: tuple[str, ...] = ()


def read_volume(path: Path) -> Volume:
    """Reads a NIfTI-1 or -2 file (.nii, .nii.gz) and verifies all of it, to the gzip trailer.

    Raises CaseError, naming the file, for anything that is not one whole finite 3-D image of real numbers.
    """
    header, raw = _read_verified(path)
    geometry, warnings = _geometry(path, header)
    data = np.frombuffer(raw, dtype=header.get_data_dtype()).reshape(geometry.shape, order="F").astype(np.float32)
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1.0, 0.0):
        data = data * np.float32(slope) + np.float32(intercept)
    finite = np.isfinite(data)
    if not finite.all():
        share = 1.0 - float(finite.mean())
        if share > MAX_NONFINITE:
            raise CaseError(
                f"{path}: {share:.1%} of the voxels are NaN or Inf, more than {MAX_NONFINITE:.0%}: export it again"
            )
        data = np.where(finite, data, np.float32(0))
        warnings = (*warnings, f"{path}: {int((~finite).sum())} NaN or Inf voxels were replaced by 0")
    return Volume(np.ascontiguousarray(data), geometry, warnings)


def read_images(paths: Iterable[Path]) -> dict[Path, Volume]:
    """Reads the modalities of one case. Raises CaseError for a file that fails or a grid that differs."""
    volumes = {path: read_volume(path) for path in paths}
    check_same_grid(volumes)
    return volumes


def read_labels(path: Path) -> tuple[NDArray[np.uint8], Geometry]:
    """Reads a label map: uint8 (X, Y, Z). Raises CaseError if a value is not a whole number from 0 to 255."""
    volume = read_volume(path)
    labels = volume.data.astype(np.uint8)
    if not np.array_equal(labels, volume.data):
        raise CaseError(f"{path}: holds values that are no labels (whole numbers from 0 to 255)")
    return labels, volume.geometry


def read_geometry(path: Path) -> Geometry:
    """Reads the header alone. Raises CaseError as `read_volume` does for what the header shows."""
    with _stream(path) as stream:
        return _geometry(path, _header(path, stream))[0]


def read_header(path: Path) -> nib.Nifti1Header:
    """The header as it stands in the file, for checks. Raises CaseError if there is none."""
    with _stream(path) as stream:
        return _header(path, stream)


def write_labels(path: Path, labels: NDArray[np.uint8], geometry: Geometry) -> None:
    """Writes a uint8 label map (X, Y, Z) with a fresh header on the given grid, atomically.

    The file appears under its name only when it is whole and on the disk. Same labels, same bytes. Raises OutputError.
    """
    _write(path, labels.astype(np.uint8, copy=False), geometry)


def write_probabilities(path: Path, probabilities: NDArray[np.float32], geometry: Geometry) -> None:
    """Writes region probabilities (R, X, Y, Z) as a 4-D float32 image (X, Y, Z, R), atomically. Raises OutputError."""
    _write(path, np.moveaxis(probabilities, 0, -1).astype(np.float32, copy=False), geometry)


def check_same_grid(volumes: dict[Path, Volume]) -> None:
    """Raises CaseError unless all volumes have one shape and, to 1e-3, one affine."""
    (first_path, first), *rest = volumes.items()
    for path, volume in rest:
        if volume.geometry.shape != first.geometry.shape:
            raise CaseError(
                f"{path}: shape {volume.geometry.shape} differs from {first.geometry.shape} of {first_path.name}: "
                "register them to one grid"
            )
        distance = float(np.abs(volume.geometry.affine - first.geometry.affine).max())
        if distance > AFFINE_TOLERANCE:
            raise CaseError(
                f"{path}: its affine differs by {distance:.3g} mm from that of {first_path.name}: "
                "register them to one grid"
            )


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where its name ends in .gz; any failure to read becomes a CaseError."""
    try:
        if path.stat().st_size == 0:
            raise CaseError(f"{path}: the file is empty: copy it again")
        with path.open("rb") as raw:
            magic = raw.read(2)
            raw.seek(0)
            if path.suffix != ".gz":
                yield raw
            elif magic != b"\x1f\x8b":
                raise CaseError(f"{path}: is not gzip-compressed although its name ends in .gz: {_looks_like(path)}")
            else:
                with igzip.open(raw, "rb") as unpacked:
                    yield cast(IO[bytes], unpacked)
    except READ_ERRORS as error:
        raise CaseError(f"{path}: cannot be read to its end ({error}): truncated or damaged, copy it again") from error


def _looks_like(path: Path) -> str:
    with path.open("rb") as raw:
        head = raw.read(352)
    if head[344:347] == b"n+1" or head[4:7] == b"n+2":
        return "an uncompressed NIfTI file, rename it to .nii"
    if head.lstrip()[:1] == b"<":
        return "a web page, download the image again"
    return "not an image, export it again"


def _header(path: Path, stream: IO[bytes]) -> nib.Nifti1Header:
    """Parses the header from the start of the stream and leaves the stream right behind it."""
    head = stream.read(348)
    kind: type[nib.Nifti1Header] = nib.Nifti1Header
    if head[4:7] == b"n+2":
        kind, head = nib.Nifti2Header, head + stream.read(540 - 348)
    elif head[344:347] != b"n+1":
        raise CaseError(f"{path}: is not a NIfTI file: export it as NIfTI-1 (.nii.gz)")
    try:
        header = kind(head, check=False)
        header.get_data_dtype()
        header.get_data_shape()
    except (HeaderDataError, ImageFileError, ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{path}: its header is damaged ({error}): export it again") from error
    return header


def _read_verified(path: Path) -> tuple[nib.Nifti1Header, bytes]:
    """Header and voxel bytes; nothing is allocated before the header has been checked."""
    with _stream(path) as stream:
        header = _header(path, stream)
        size = _data_bytes(path, header)
        offset = float(header["vox_offset"]) or int(header["sizeof_hdr"]) + 4.0  # unset: right behind the header
        gap = (int(offset) if np.isfinite(offset) else -1) - int(header["sizeof_hdr"])
        if not 0 <= gap <= 2**20:
            raise CaseError(f"{path}: its header puts the data at byte {offset:g}: export it again")
        stream.read(gap)
        raw = stream.read(size)
        if len(raw) < size:
            raise CaseError(f"{path}: holds {len(raw)} of {size} bytes of voxels: truncated, copy it again")
        if len(stream.read(2**16)) == 2**16:  # also drains the stream: only then is the checksum compared
            raise CaseError(f"{path}: goes on after the voxels that its header announces: export it again")
        return header, raw


def _data_bytes(path: Path, header: nib.Nifti1Header) -> int:
    shape = header.get_data_shape()
    dtype = header.get_data_dtype()
    if len(shape) < 3 or any(n < 1 for n in shape):
        raise CaseError(f"{path}: its shape is {shape}, not that of a 3-D image")
    if any(n != 1 for n in shape[3:]):
        raise CaseError(f"{path}: holds {shape[3:]} volumes, not one: extract the one to segment")
    if dtype.fields is not None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise CaseError(
            f"{path}: voxels are of type {dtype}, not real numbers of up to 64 bits: convert them to float32"
        )
    voxels = int(np.prod([int(n) for n in shape], dtype=object))
    if voxels > MAX_VOXELS:
        raise CaseError(
            f"{path}: its header announces {voxels} voxels, more than {MAX_VOXELS}: crop it, or export it again"
        )
    return voxels * int(dtype.itemsize)


def _geometry(path: Path, header: nib.Nifti1Header) -> tuple[Geometry, tuple[str, ...]]:
    _data_bytes(path, header)
    shape = header.get_data_shape()
    warnings: list[str] = []
    if len(shape) > 3:
        warnings.append(f"{path}: a single volume in {len(shape)} dimensions was taken as 3-D")
    sform = header.get_sform(coded=True)[0]
    qform = _qform(header)
    affine = sform if sform is not None else qform
    if affine is None:
        affine = header.get_base_affine()
        warnings.append(f"{path}: has neither qform nor sform: the axes were taken as right, anterior, superior")
    elif sform is not None and qform is not None and not np.allclose(sform, qform, atol=AFFINE_TOLERANCE):
        warnings.append(f"{path}: qform and sform differ: the sform was used, both are written as they were")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise CaseError(f"{path}: its affine is not finite or is singular: export it again")
    fields = _raw_fields(header)
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine.astype(np.float64), fields), tuple(warnings)


def _raw_fields(header: nib.Nifti1Header) -> dict[str, Any]:
    """The header fields that place the grid in the world, as they stand."""
    fields: dict[str, Any] = {name: np.array(header[name]) for name in GEOMETRY_FIELDS}
    return {**fields, "pixdim": np.array(header["pixdim"][:4]), "xyzt_units": np.array(header["xyzt_units"])}


def _qform(header: nib.Nifti1Header) -> NDArray[np.float64] | None:
    """The qform where it is coded and makes sense, else None."""
    try:
        qform: NDArray[np.float64] | None = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        return None
    return qform


def _write(path: Path, data: NDArray[Any], geometry: Geometry) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    for name in GEOMETRY_FIELDS:
        header[name] = geometry.fields[name]
    header["pixdim"][:4] = geometry.fields["pixdim"]
    header["xyzt_units"] = geometry.fields["xyzt_units"]
    header["vox_offset"] = 352
    content = header.binaryblock + b"\0\0\0\0" + np.asfortranarray(data).tobytes(order="F")
    try:
        write_atomically(path, igzip.compress(content, 2, mtime=0))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}): free some space or choose another --output"
        ) from error
