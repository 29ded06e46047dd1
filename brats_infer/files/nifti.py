"""Reads and writes NIfTI files: a read verifies the whole file, a write is atomic."""

import math
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from brats_infer.errors import CaseError, OutputError
from brats_infer.files.background import zero_background
from brats_infer.files.cases import Case
from brats_infer.files.geometry import Geometry, geometry_of_header
from brats_infer.files.unpack import header_of, read_up_to, skip_to_voxels, unpacked
from model.atomic import write_atomically

MAX_NONFINITE = 0.01  # share of NaN or Inf voxels that may be replaced by 0
MAX_TRAILING = 2**16  # bytes behind the voxels
HALF_A_STEP = 0.5 + 1e-6
SLAB = 16  # slices
STEPS = 255  # from probability 0 to 1 in a file
GZIP_BITS = zlib.MAX_WBITS + 16  # selects the gzip format


@dataclass(frozen=True)
class Volume:
    """One 3-D image without NaN and Inf, with its geometry and the file's oddities."""

    data: NDArray[Any]
    """(X, Y, Z): float32, or the stored integers of 8 or 16 bits, which float32 holds exactly.

    In the file's memory order, X fastest. The order changes after the crop, as that takes less time.
    """
    geometry: Geometry
    warnings: tuple[str, ...] = ()
    absent: str | None = None
    """Why there is no such image; `data` is 0 then."""


def read_volume(path: Path) -> Volume:
    """Reads a NIfTI-1 or -2 file (.nii, .nii.gz) and verifies all of it, up to the gzip trailer.

    Raises CaseError, naming the file, unless it is one complete 3-D image of real numbers with few NaN or Inf.
    """
    data, geometry, warnings = read_verified(path)
    return _finite(path, data, geometry, warnings)


def _finite(path: Path, data: NDArray[Any], geometry: Geometry, warnings: tuple[str, ...]) -> Volume:
    """The volume with 0 for a few NaN or Inf, which `data` loses. Raises CaseError for many."""
    finite = np.isfinite(data) if data.dtype.kind == "f" else None
    if finite is not None and not finite.all():
        count = finite.size - int(np.count_nonzero(finite))
        if count > MAX_NONFINITE * finite.size:
            raise CaseError(
                f"{path}: {count / finite.size:.1%} of the voxels are NaN or Inf in float32, more than "
                f"{MAX_NONFINITE:.0%}: export it again"
            )
        data[~finite] = 0
        warnings = (*warnings, f"{path}: {count} NaN or Inf voxels were replaced by 0")
    return Volume(data, geometry, warnings)


def read_case(case: Case) -> dict[Path, Volume]:
    """Reads the images of a case, {file: volume} in the order of `MODALITIES`, as `read_images`.

    A volume of a 4-D image has the file's name and its contrast: `BRATS_001.nii.gz:t1c`. Raises CaseError.
    """
    if case.problem:
        raise CaseError(case.problem)
    if not case.channels:
        return read_images(case.paths.values())
    path = next(iter(case.paths.values()))
    data, geometry, warnings = read_verified(path, len(case.channels))
    volumes: dict[Path, Volume] = {}
    for name in case.paths:
        part = Path(f"{path}:{name}")
        volume = np.asfortranarray(data[..., case.channels.index(name)])
        volumes[part] = with_background_0(part, _finite(part, volume, geometry, () if volumes else warnings))
    return volumes


def read_images(paths: Iterable[Path]) -> dict[Path, Volume]:
    """Reads the modalities of one case in parallel, with background 0.

    Raises CaseError for an unusable file or differing grids.
    """
    paths = list(paths)
    with ThreadPoolExecutor(max(1, len(paths))) as pool:  # unpacking releases the GIL
        read = pool.map(lambda path: with_background_0(path, read_volume(path)), paths)
        return on_one_grid(dict(zip(paths, read, strict=True)))


def read_geometry(path: Path, volumes: int = 1) -> Geometry:
    """Reads the header alone. Raises CaseError as `read_volume` does for a faulty header."""
    with unpacked(path) as stream:
        return geometry_of_header(path, header_of(path, stream), volumes)[0]


def read_header(path: Path) -> nib.Nifti1Header:
    """The raw header of a file, for checks. Raises CaseError if there is none."""
    with unpacked(path) as stream:
        return header_of(path, stream)


def write_labels(path: Path, labels: NDArray[np.uint8], geometry: Geometry) -> None:
    """Writes a uint8 label map (X, Y, Z) with a fresh header on the given grid, atomically.

    The file gets its name once it is complete on the disk. Equal labels give equal bytes. Raises OutputError.
    """
    _write(path, labels.astype(np.uint8, copy=False), geometry)


def write_image(path: Path, image: NDArray[np.int16], geometry: Geometry) -> None:
    """Writes an int16 image (X, Y, Z), atomically. Raises OutputError."""
    _write(path, image, geometry)


def write_probabilities(path: Path, probabilities: NDArray[np.float32], geometry: Geometry) -> None:
    """Writes region probabilities (R, X, Y, Z) as a 4-D uint8 image (X, Y, Z, R) of steps of 1/255, atomically.

    Its scl_slope is 1/255: NIfTI readers see 0 to 1, with an error of at most 1/510. Raises OutputError.
    """
    steps = np.rint(np.clip(probabilities, 0, 1) * np.float32(STEPS)).astype(np.uint8)
    _write(path, np.moveaxis(steps, 0, -1), geometry, 1 / STEPS)


def with_background_0(path: Path, volume: Volume) -> Volume:
    """The volume with background 0, and a warning if that was another value."""
    data, value = zero_background(volume.data)
    if value is None:
        return volume
    told = f"{path}: its background is {value:g}, not 0: it was taken as 0"
    return replace(volume, data=data, warnings=(*volume.warnings, told))


def on_one_grid(volumes: dict[Path, Volume]) -> dict[Path, Volume]:
    """The volumes on the grid of the first one, with a warning if a grid is up to a tenth of a voxel off.

    Raises CaseError for a greater difference.
    """
    first_path, first = next(iter(volumes.items()))
    moved = dict(volumes)
    for path, volume in volumes.items():
        if difference := volume.geometry.difference(first.geometry, first_path.name):
            raise CaseError(f"{path}: {difference}: register them to one grid, or give raw scans to --raw")
        if offset := volume.geometry.offset(first.geometry, first_path.name):
            told = f"{path}: {offset}: they were taken as one grid"
            moved[path] = Volume(volume.data, first.geometry, (*volume.warnings, told))
    return moved


def read_verified(path: Path, volumes: int = 1) -> tuple[NDArray[Any], Geometry, tuple[str, ...]]:
    """(voxels (X, Y, Z) as in `Volume.data`, but with NaN and Inf; their grid; warnings).

    Several volumes are (X, Y, Z, volumes). Checks the header before it allocates memory, and reads every byte of the
    file.
    """
    with unpacked(path) as stream:
        header = header_of(path, stream)
        geometry, warnings = geometry_of_header(path, header, volumes)
        shape = geometry.shape if volumes == 1 else (*geometry.shape, volumes)
        size = math.prod(shape) * int(header.get_data_dtype().itemsize)
        skip_to_voxels(path, header, stream)
        raw = read_up_to(stream, size, path.stat().st_size)
        if len(raw) < size:
            raise CaseError(f"{path}: holds {len(raw)} of {size} bytes of voxels: truncated, copy it again")
        if len(stream.read(MAX_TRAILING)) == MAX_TRAILING:  # gzip compares its checksum at the end
            raise CaseError(f"{path}: goes on after the voxels that its header announces: export it again")
    return _scaled(header, raw, shape), geometry, warnings


def _scaled(header: nib.Nifti1Header, raw: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[Any]:
    """Stored bytes -> (X, Y, Z, …) with the header's slope and intercept; numbers beyond float32 become Inf.

    Integers that scale to at most half a step from 0 become 0: storage has rounded 0 to them.
    """
    slope, intercept = header.get_slope_inter()
    scaled = slope is not None and (slope, intercept) != (1.0, 0.0)
    stored = np.frombuffer(raw, header.get_data_dtype()).reshape(shape, order="F")
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2 and not scaled:
        return stored.astype(stored.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        if not scaled:
            return stored.astype(np.float32)
        data = np.empty(shape, np.float32, order="F")
        for start in range(0, shape[2], SLAB):  # in float64, a slab at a time to save memory
            values = stored[:, :, start : start + SLAB].astype(np.float64) * slope + intercept
            if stored.dtype.kind in "iu":
                values[np.abs(values) <= HALF_A_STEP * abs(slope)] = 0
            data[:, :, start : start + SLAB] = values
    return data


def _write(path: Path, data: NDArray[Any], geometry: Geometry, slope: float = 0.0) -> None:
    """Packs and writes an image, atomically. `slope` 0 means unset in the standard. Raises OutputError."""
    header = nib.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_data_shape(data.shape)
    geometry.put_into(header)
    header["vox_offset"] = 352
    header["scl_slope"] = slope
    packer = isal_zlib.compressobj(2, wbits=GZIP_BITS)
    voxels = np.asfortranarray(data).ravel(order="K")  # no copy if they are in the file's order
    packed = (packer.compress(header.binaryblock + b"\0\0\0\0"), packer.compress(voxels), packer.flush())
    try:
        write_atomically(path, b"".join(packed))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}): free some space or choose another folder"
        ) from error
