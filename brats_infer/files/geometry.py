"""The position of a voxel grid in the world: read from a NIfTI header and checked before any voxel is read."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from brats_infer.errors import CaseError

MAX_VOXELS = 512**3  # of the largest image that is read; a whole head at 1 mm has 256^3
MAX_INT16 = 32767  # largest side and code in NIfTI-1, the output format
AFFINE_TOLERANCE = 1e-3  # mm; two grids closer than this are equal
SLIGHT = 0.1  # of a voxel's shortest edge; two grids closer than this are one, with a warning
PIXDIM_TOLERANCE = 1e-3  # share of a voxel's edge
SPACING_MM = (0.01, 100.0)  # outside this range the affine is in another unit or invalid
MIN_INDEPENDENCE = 1e-3  # determinant of the axes' directions: 1 at right angles, 0 in one plane
GEOMETRY_FIELDS = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True)
class Geometry:
    """The position of an array in the world, with every header field that defines it."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    """(4, 4), voxel indices to mm; the sform where there is one."""
    fields: dict[str, Any]
    """Raw qform and sform fields, pixdim[0:4] and the units, written back unchanged."""

    @classmethod
    def of_affine(cls, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> "Geometry":
        """The grid of an array without a file: sform and qform hold `affine`, in scanner coordinates."""
        header = nib.Nifti1Header()
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
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    @property
    def qform(self) -> NDArray[np.float64] | None:
        """(4, 4), from the qform fields alone; None if there is no qform, NaN if its fields are invalid."""
        header = nib.Nifti1Header()
        self.put_into(header)
        return _qform(header)

    def difference(self, other: "Geometry", name: str) -> str | None:
        """The difference to another grid, called `name`, as text; None if both count as one grid.

        They do if they have one shape and no voxel lies a tenth of a voxel or more off. `offset` then tells whether
        they are equal.
        """
        if self.shape != other.shape:
            return f"its shape {self.shape} is not {other.shape} of {name}"
        if not self._is_near(other):
            return f"its affine differs by {np.abs(self.affine - other.affine).max():.3g} mm from that of {name}"
        return None

    def offset(self, other: "Geometry", name: str) -> str | None:
        """The small difference, as text, where `difference` is None; None for equal grids, which 0.001 mm may part."""
        if self.difference(other, name):
            return None
        distance = self._distance(other)
        if distance <= AFFINE_TOLERANCE:
            return None
        return f"its affine differs by {distance:.3g} mm from that of {name}, less than a tenth of a voxel"

    def _is_near(self, other: "Geometry") -> bool:
        near = self._distance(other) < SLIGHT * min(*self.spacing, *other.spacing)
        return near or is_same_affine(self.affine, other.affine)

    def _distance(self, other: "Geometry") -> float:
        """The largest distance in mm between a voxel's places on two grids of one shape; it is at a corner."""
        corners = np.array([*product(*((0, side - 1) for side in self.shape), (1,))])
        return float(np.linalg.norm((corners @ (self.affine - other.affine).T)[:, :3], axis=1).max())

    def put_into(self, header: nib.Nifti1Header) -> None:
        """Writes qform, sform, their codes, pixdim and units unchanged."""
        for name in GEOMETRY_FIELDS:
            header[name] = self.fields[name]
        header["pixdim"][:4] = self.fields["pixdim"]
        header["xyzt_units"] = self.fields["xyzt_units"]


def size_text(lengths: Iterable[float]) -> str:
    """Lengths in mm as text, for example 1x1x2.5."""
    return "x".join(f"{mm:.3g}" for mm in lengths)


def is_same_affine(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether no entry of two affines (4, 4) differs by more than 1e-3; NaN equals NaN."""
    return np.allclose(one, other, rtol=0, atol=AFFINE_TOLERANCE, equal_nan=True)


@np.errstate(all="ignore")  # a header may hold any number: the checks judge the results
def geometry_of_header(path: Path, header: nib.Nifti1Header, volumes: int = 1) -> tuple[Geometry, tuple[str, ...]]:
    """(grid, warnings) of the header of an image of that many volumes. Raises CaseError for an unusable one."""
    _check_kind(path, header, volumes)
    x, y, z, *more = header.get_data_shape()
    header = _as_written(path, header)
    warnings: list[str] = []
    if more and volumes == 1:
        warnings.append(f"{path}: a single volume in {3 + len(more)} dimensions was taken as 3-D")
    sform = header.get_sform(coded=True)[0]
    qform = _qform(header)
    affine = np.asarray(next(a for a in (sform, qform, header.get_base_affine()) if a is not None), np.float64)
    geometry = Geometry((x, y, z), affine, _raw_fields(header))
    check_affine(path, geometry)
    if sform is None and qform is None:
        axes = "".join(nib.aff2axcodes(affine))
        warnings.append(f"{path}: has neither qform nor sform: its axes were taken as {axes}")
    elif sform is not None and qform is not None and not is_same_affine(sform, qform):
        warnings.append(f"{path}: qform and sform differ: the sform was used, both are written as they were")
    if sform is not None and (said := _contradiction(header, geometry)):
        warnings.append(f"{path}: {said}: the affine was used")
    return geometry, tuple(warnings)


def _contradiction(header: nib.Nifti1Header, geometry: Geometry) -> str | None:
    """The sizes of a voxel by pixdim and by the affine as text, if they differ; pixdim with a 0 says nothing."""
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], np.float64))
    if not pixdim.all() or np.allclose(pixdim, geometry.spacing, rtol=PIXDIM_TOLERANCE, atol=0):
        return None
    return f"its pixdim says voxels of {size_text(pixdim)} mm, its affine {size_text(geometry.spacing)} mm"


def _check_kind(path: Path, header: nib.Nifti1Header, volumes: int) -> None:
    """Raises CaseError unless the header announces 3-D volumes of real numbers, each of at most `MAX_VOXELS`."""
    shape = header.get_data_shape()
    dtype = header.get_data_dtype()
    if len(shape) != int(header["dim"][0]) or len(shape) < 3 or not all(1 <= n <= MAX_INT16 for n in shape[:3]):
        raise CaseError(f"{path}: its shape is {shape}, not that of a 3-D image: export it again")
    if volumes == 1 and any(n != 1 for n in shape[3:]):
        raise CaseError(
            f"{path}: its shape is {shape}, more than one volume: extract the one to segment, or if these are the "
            "contrasts give --channels"
        )
    if volumes > 1 and tuple(n for n in shape[3:] if n != 1) != (volumes,):
        raise CaseError(f"{path}: its shape is {shape}, not one of {volumes} volumes as --channels says: check both")
    if dtype.fields is not None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise CaseError(
            f"{path}: voxels are of type {dtype}, not real numbers of up to 64 bits: convert them to float32"
        )
    if math.prod(shape) > MAX_VOXELS * volumes:
        raise CaseError(
            f"{path}: its header announces {math.prod(shape)} voxels, more than {MAX_VOXELS}: crop it, or export it "
            "again"
        )


def _as_written(path: Path, header: nib.Nifti1Header) -> nib.Nifti1Header:
    """Converts a NIfTI-2 header to NIfTI-1, the output format, in float32. Raises CaseError for too large codes."""
    if header.sizeof_hdr == nib.Nifti1Header.sizeof_hdr:
        return header
    codes = [int(header[name]) for name in ("qform_code", "sform_code")]
    if not all(0 <= code <= MAX_INT16 for code in codes):
        raise CaseError(f"{path}: its qform_code or sform_code is {max(codes, key=abs)}: export it again")
    written = nib.Nifti1Header()
    written.set_data_shape(header.get_data_shape()[:3])
    for name in GEOMETRY_FIELDS:
        written[name] = header[name]
    written["pixdim"][:4], written["xyzt_units"] = header["pixdim"][:4], header["xyzt_units"]
    return written


@np.errstate(over="ignore")
def check_affine(path: Path, geometry: Geometry) -> None:
    """Raises CaseError for an affine that is singular or not finite in float32, or a spacing outside `SPACING_MM`."""
    independent = geometry.voxel_mm3 > MIN_INDEPENDENCE * math.prod(geometry.spacing)
    if not (np.isfinite(geometry.affine.astype(np.float32)).all() and independent):
        raise CaseError(f"{path}: its affine is not finite or is singular: export it again")
    low, high = SPACING_MM
    if not all(low <= mm <= high for mm in geometry.spacing):
        size = size_text(geometry.spacing)
        raise CaseError(f"{path}: its affine means voxels of {size} mm: export it again, in millimetres")


def _raw_fields(header: nib.Nifti1Header) -> dict[str, Any]:
    """The raw header fields that define the grid's position."""
    fields: dict[str, Any] = {name: np.array(header[name]) for name in GEOMETRY_FIELDS}
    return {**fields, "pixdim": np.array(header["pixdim"][:4]), "xyzt_units": np.array(header["xyzt_units"])}


def _qform(header: nib.Nifti1Header) -> NDArray[np.float64] | None:
    """The qform; None if its code is 0, NaN if its fields are invalid."""
    lenient = header.copy()
    lenient["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1  # the standard reads 0 as 1
    lenient["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            qform: NDArray[np.float64] | None = lenient.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        return np.full((4, 4), np.nan)
    return qform
