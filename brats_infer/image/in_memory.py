"""Images in memory: arrays, tensors, nibabel and SimpleITK images become the volumes that files are read into."""

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cc3d
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from brats_infer.errors import CaseError, UsageError
from brats_infer.files.geometry import Geometry, check_affine, geometry_of_header, is_same_affine
from brats_infer.files.nifti import Volume, on_one_grid, with_background_0

IN_MEMORY = Path("images")
"""Stands for the folder in messages about images in memory."""
LAST_ROW = (0, 0, 0, 1)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNREADABLE = (TypeError, ValueError, RuntimeError, OSError, EOFError, zlib.error, ImageFileError)
"""Errors of the conversion to an array. nibabel reads its files only then."""


def volumes_in_memory(images: Mapping[str, object], affine: object = None) -> dict[Path, Volume]:
    """{IN_MEMORY / name: volume} on one grid, with background 0.

    `affine` (4, 4), voxels to mm, is that of arrays and tensors. Images of nibabel and SimpleITK have their own.
    Raises UsageError for a missing, invalid or contradicting affine, CaseError for unusable images.
    """
    matrix = None if affine is None else _matrix("affine", affine)
    volumes = {IN_MEMORY / name: _volume(IN_MEMORY / name, image, matrix) for name, image in images.items()}
    volumes = _without_nan(volumes)
    return on_one_grid({path: with_background_0(path, volume) for path, volume in volumes.items()})


def _matrix(name: str, affine: object) -> NDArray[np.float64]:
    matrix = _numbers(Path(name), affine, np.float64)
    if matrix.shape != (4, 4) or not np.array_equal(matrix[3], LAST_ROW):
        raise UsageError(f"{name}: give a matrix (4, 4), from voxels to mm, whose last row is 0, 0, 0, 1")
    return matrix


def _volume(path: Path, image: object, affine: NDArray[np.float64] | None) -> Volume:
    """The volume of one image, which may still hold NaN."""
    if isinstance(image, nib.Nifti1Pair):  # NIfTI-1 and -2
        header = type(image)(image.dataobj, image.affine, image.header).header  # a copy that agrees with the affine
        geometry, warnings = geometry_of_header(path, header)
        volume = Volume(_one_volume(path, image.dataobj), geometry, warnings)
    elif isinstance(image, SpatialImage):
        volume = _placed(path, _one_volume(path, image.dataobj), _matrix(f"affine of {path}", image.affine))
    elif isinstance(image, sitk.Image):
        volume = _placed(path, _one_volume(path, _sitk_values(path, image)), _affine_of_sitk(image))
    elif affine is None:
        raise UsageError("arrays without an affine: give affine=, the matrix (4, 4) from voxels to mm")
    else:
        return _placed(path, _one_volume(path, image), affine, IN_MEMORY)
    if affine is not None and not is_same_affine(volume.geometry.affine, affine):
        raise UsageError(f"{path}: has an affine of its own, and affine= is another one: leave affine= out")
    return volume


def _placed(path: Path, data: NDArray[np.float32], affine: NDArray[np.float64], named: Path | None = None) -> Volume:
    """A volume on the grid of an affine; a fault of the affine is reported as that of `named`."""
    check_affine(named or path, Geometry((1, 1, 1), affine, {}))
    x, y, z = data.shape
    return Volume(data, Geometry.of_affine((x, y, z), affine))


def _one_volume(path: Path, values: object) -> NDArray[np.float32]:
    """(X, Y, Z) float32 without Inf, from three axes, or four of which the last or the first is 1."""
    array: NDArray[np.float32] = _numbers(path, values, np.float32)
    shape = array.shape
    if array.ndim == 4 and 1 in (shape[-1], shape[0]):
        array = array[..., 0] if shape[-1] == 1 else array[0]
    if array.ndim != 3 or not array.size:
        raise CaseError(f"{path}: has the shape {shape}: give one volume (X, Y, Z)")
    if infinite := int(np.count_nonzero(np.isinf(array))):
        raise CaseError(f"{path}: {infinite} voxels are infinite in float32: replace them by numbers")
    return array


def _numbers(path: Path, values: object, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            values = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
        given = np.ma.filled(values, 0) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
        with np.errstate(over="ignore"):  # too large numbers become Inf
            return given.astype(dtype, casting="same_kind" if given.dtype.kind == "c" else "unsafe")
    except UNREADABLE as error:
        raise CaseError(
            f"{path}: is no array of numbers ({error}): give an array, a tensor, or an image of nibabel or SimpleITK"
        ) from error


def _sitk_values(path: Path, image: sitk.Image) -> NDArray[Any]:
    """(X, Y, Z) of a SimpleITK image, whose arrays have the axes reversed."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise CaseError(f"{path}: its voxels have {image.GetNumberOfComponentsPerPixel()} components: give one number")
    return np.asarray(sitk.GetArrayViewFromImage(image)).T


def _affine_of_sitk(image: sitk.Image) -> NDArray[np.float64]:
    """(4, 4), voxels to mm with axes to the right, front and top; ITK's axes go to the left, back and top."""
    sides = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (sides, sides))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return np.asarray(LPS_TO_RAS @ affine, np.float64)


def _without_nan(volumes: dict[Path, Volume]) -> dict[Path, Volume]:
    """NaN as background 0, with a warning, if all contrasts have it at the same voxels or it reaches the grid's edge.

    Raises CaseError for NaN inside the brain.
    """
    nan = {path: np.isnan(volume.data) for path, volume in volumes.items()}
    first = next(iter(nan.values()))
    shared = all(np.array_equal(mask, first) for mask in nan.values())
    found = {}
    for path, volume in volumes.items():
        mask, count = nan[path], int(np.count_nonzero(nan[path]))
        if count and not shared and not _reaches_the_edge(mask):
            raise CaseError(f"{path}: {count} voxels are NaN, some of them inside the brain: replace them by numbers")
        told = (f"{path}: {count} NaN voxels were taken as background",) if count else ()
        data = np.where(mask, np.float32(0), volume.data) if count else volume.data
        found[path] = replace(volume, data=data, warnings=(*volume.warnings, *told))
    return found


def _reaches_the_edge(mask: NDArray[np.bool_]) -> bool:
    """Whether every component of a mask (X, Y, Z) touches a face of the grid."""
    around = np.pad(mask, 1, constant_values=True)
    return int(cc3d.connected_components(around, connectivity=6).max()) == 1
