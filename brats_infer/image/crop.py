"""Brings a case's images to the networks' crop, and results back: axes, spacing, brain (paper 3.1)."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import nibabel.orientations as nio
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.geometry import MAX_VOXELS, Geometry, size_text
from brats_infer.files.nifti import Volume
from brats_infer.image.voxels import bounding_box
from brats_infer.tasks import GRID_AFFINE

N = TypeVar("N", int, float)

CANONICAL_AXES = ("L", "P", "S")  # voxel axes of the challenges' common grid; its affine is diag(-1, -1, 1)
CROP_MARGIN = 4  # voxels of background around the brain, for the convolutions at its edge
SPACING_TOLERANCE = 0.01  # mm; a spacing this close to 1 mm needs no resampling
ONE_MM = (1.0, 1.0, 1.0)
MAX_CROP = 2**25  # voxels of 1 mm, a cube of side 322; the shipped networks need some 250 bytes a voxel
SLAB = 16  # voxels


@dataclass(frozen=True)
class Restore:
    """The data that undo the change of axes and spacing, and the crop."""

    geometry: Geometry
    """The input's own grid."""
    orientation: NDArray[np.float64]
    """nibabel orientation transform, input axes to canonical ones."""
    oriented_shape: tuple[int, int, int]
    """Canonical axes, the input's spacing."""
    spacing: tuple[float, float, float]
    """mm, canonical axes."""
    canonical_shape: tuple[int, int, int]
    """Canonical axes, 1 mm."""
    box: tuple[slice, slice, slice]
    """The crop, in the canonical grid."""

    @classmethod
    def of_crop(cls, shape: tuple[int, ...]) -> "Restore":
        """For an array that is a crop at 1 mm already: nothing to undo."""
        x, y, z = shape
        sides, affine = (x, y, z), np.array(GRID_AFFINE)
        orientation = nio.axcodes2ornt(CANONICAL_AXES)
        orientation = nio.ornt_transform(nio.io_orientation(affine), orientation)
        box = (slice(0, x), slice(0, y), slice(0, z))
        return cls(Geometry.of_affine(sides, affine), orientation, sides, ONE_MM, sides, box)

    @property
    def resampled(self) -> bool:
        return _needs_resampling(self.spacing)


@dataclass(frozen=True)
class Cropped:
    """A case's brain on the canonical 1 mm grid, with the original intensities."""

    views: tuple[NDArray[Any], ...]
    """(X, Y, Z) views of each modality's volume, of any type and memory order. Background is exactly 0."""
    brain: NDArray[np.bool_]
    """(X, Y, Z): True where any modality is non-zero."""
    restore: Restore
    counts: tuple[int, ...]
    """Non-zero voxels of each modality."""

    @property
    def brain_share(self) -> float:
        """The brain's share of the whole grid's voxels, from 0 to 1."""
        return int(np.count_nonzero(self.brain)) / math.prod(self.restore.canonical_shape)

    @property
    def brain_litres(self) -> float:
        """The brain's volume."""
        spacing = ONE_MM if self.restore.resampled else self.restore.spacing
        return int(np.count_nonzero(self.brain)) * math.prod(spacing) / 1e6

    @cached_property
    def images(self) -> NDArray[np.float32]:
        """(4, X, Y, Z), copied on first use."""
        return self.copied(np.empty((len(self.views), *self.brain.shape), np.float32))

    def copied(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copies the images into `out` (4, X, Y, Z) and returns it."""
        for target, view in zip(out, self.views, strict=True):
            if view.flags.c_contiguous:
                target[:] = view
            else:
                _copy(view, target)
        return out


def crop_to_brain(volumes: dict[Path, Volume]) -> Cropped:
    """Brings a case's images (same grid) to canonical axes and 1 mm, and crops them to the brain.

    Raises CaseError, naming the case or file, for a grid or brain that is too large, or an image too thin to resample.
    """
    case = next(iter(volumes)).parent
    geometry = next(iter(volumes.values())).geometry
    orientation = nio.ornt_transform(nio.io_orientation(geometry.affine), nio.axcodes2ornt(CANONICAL_AXES))
    spacing = _permuted(geometry.spacing, orientation)
    oriented_shape = _permuted(geometry.shape, orientation)
    resampled = _needs_resampling(spacing)
    shape = _shape_at_1mm(case, oriented_shape, spacing) if resampled else oriented_shape
    brain = np.zeros(shape, bool, order="F")
    images, counts = [], []
    for path, volume in volumes.items():
        image = nio.apply_orientation(volume.data, orientation)
        if resampled:
            image = _resample_image(image.astype(np.float32), spacing, shape)
            if volume.absent is None and not image.any():
                raise CaseError(
                    f"{path}: nothing is left of it at 1 mm: its voxels of {size_text(spacing)} mm are too few"
                )
        images.append(image)
        voxels = image != 0
        counts.append(int(np.count_nonzero(voxels)))  # counting a mask releases the GIL, counting numbers does not
        np.logical_or(brain, voxels, out=brain)
    restore = Restore(geometry, orientation, oriented_shape, spacing, shape, bounding_box(brain, CROP_MARGIN))
    inside = brain[restore.box].shape
    if math.prod(inside) > MAX_CROP:
        raise CaseError(
            f"{case}: what is not 0 spans {size_text(inside)} mm, more than a head: crop it, remove the background, "
            "or mend its affine"
        )
    mask = np.empty(inside, bool)
    _copy(brain[restore.box], mask)
    return Cropped(tuple(image[restore.box] for image in images), mask, restore, tuple(counts))


def _copy(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copies (X, Y, Z) between Fortran and C order, in slabs that fit the processor's caches."""
    for start in range(0, source.shape[1], SLAB):
        target[:, start : start + SLAB] = source[:, start : start + SLAB].copy(order="F")


def restore_probabilities(probabilities: NDArray[np.float32], restore: Restore) -> NDArray[np.float32]:
    """(R, crop) on the canonical grid -> (R, X, Y, Z) on the input's own grid; 0 outside the crop."""
    if not restore.resampled:
        return np.ascontiguousarray(np.stack([_uncropped(p, restore) for p in probabilities]))
    full = np.zeros((len(probabilities), *restore.canonical_shape), np.float32)
    full[:, *restore.box] = probabilities
    full = np.stack([_resample(p, ONE_MM, restore.oriented_shape, restore.spacing, sitk.sitkLinear) for p in full])
    back = nio.ornt_transform(nio.axcodes2ornt(CANONICAL_AXES), nio.io_orientation(restore.geometry.affine))
    return np.ascontiguousarray(np.stack([nio.apply_orientation(p, back) for p in full]))


def restore_labels(labels: NDArray[np.uint8], restore: Restore) -> NDArray[np.uint8]:
    """Labels on the crop -> (X, Y, Z) on the input's own grid, background outside the crop.

    Raises ValueError for a resampled case: restore its probabilities, then label them.
    """
    if restore.resampled:
        raise ValueError("labels of a resampled case cannot be restored")
    return _uncropped(labels, restore)


def _uncropped(values: NDArray[Any], restore: Restore) -> NDArray[Any]:
    """Puts a crop (x, y, z) back on the input's own grid of the same spacing, with 0 around it."""
    full = np.zeros(restore.geometry.shape, values.dtype, order="F")  # the files' order
    _copy(values, nio.apply_orientation(full, restore.orientation)[restore.box])  # through a view on canonical axes
    return full


def crop_labels(labels: NDArray[np.uint8], restore: Restore) -> NDArray[np.uint8]:
    """Labels (X, Y, Z) on the input's grid -> on the canonical crop, nearest neighbour where voxels are not 1 mm."""
    oriented = np.asarray(nio.apply_orientation(labels, restore.orientation))
    if restore.resampled:
        nearest = _resample(
            oriented.astype(np.float32), restore.spacing, restore.canonical_shape, ONE_MM, sitk.sitkNearestNeighbor
        )
        oriented = nearest.astype(np.uint8)
    cropped = np.empty(oriented[restore.box].shape, np.uint8)
    _copy(oriented[restore.box], cropped)
    return cropped


def _needs_resampling(spacing: tuple[float, float, float]) -> bool:
    return any(abs(mm - 1.0) > SPACING_TOLERANCE for mm in spacing)


def _permuted(values: tuple[N, N, N], orientation: NDArray[np.float64]) -> tuple[N, N, N]:
    """Reorders values, one for each axis of the input, to the canonical axes."""
    of_axis = dict(zip((int(target) for target, _ in orientation), values, strict=True))
    return of_axis[0], of_axis[1], of_axis[2]


def _shape_at_1mm(case: Path, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[int, int, int]:
    x, y, z = (max(1, round(n * mm)) for n, mm in zip(shape, spacing, strict=True))
    if x * y * z > MAX_VOXELS:
        raise CaseError(
            f"{case}: {x}x{y}x{z} mm is larger than a head ({shape} voxels of {size_text(spacing)} mm): crop it, "
            "or mend its affine"
        )
    return x, y, z


def _resample_image(
    image: NDArray[np.float32], spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Resamples to 1 mm; background stays exactly 0, so that the brain does not grow."""
    linear = _resample(image, spacing, shape, ONE_MM, sitk.sitkLinear)
    mask = _resample((image != 0).astype(np.float32), spacing, shape, ONE_MM, sitk.sitkNearestNeighbor)
    return np.where(mask > 0, linear, np.float32(0))


def _resample(
    image: NDArray[np.float32], spacing: tuple[float, ...], shape: tuple[int, ...], to: tuple[float, ...], method: int
) -> NDArray[np.float32]:
    """Resamples (X, Y, Z) to `shape`. The grids share their corner, not the centre of their first voxels."""
    source = sitk.GetImageFromArray(image)  # SimpleITK's first axis is our last one
    source.SetSpacing([float(mm) for mm in reversed(spacing)])
    origin = [(float(new) - float(old)) / 2 for old, new in zip(reversed(spacing), reversed(to), strict=True)]
    size = [int(n) for n in reversed(shape)]
    spacing_out = [float(mm) for mm in reversed(to)]
    # a 1 mm grid may end half a voxel before a finer grid: its nearest voxel counts beyond the edge
    beyond = (0.0, sitk.sitkFloat32, True)
    moved = sitk.Resample(source, size, sitk.Transform(), method, origin, spacing_out, source.GetDirection(), *beyond)
    return np.asarray(sitk.GetArrayFromImage(moved), np.float32)
