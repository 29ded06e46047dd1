"""Checks the quality of a case's images: an error for an unusable image, warnings for doubtful images."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.geometry import size_text
from brats_infer.files.nifti import Volume
from brats_infer.image.crop import Cropped

TILT_WARNING = 15.0  # degrees between an axis of the grid and one of the body
COVERAGE_WARNING = 0.5  # of the fullest image's non-zero voxels; real images have at least 0.66
BRAIN_SHARE_WARNING = 0.9  # of the grid's voxels; a brain fills about 0.17 of the challenges' grid
BRAIN_LITRES_WARNING = 2.2  # a brain has 1.0 to 1.9
SKULL_LEFT = "remove the skull and the background, or give the raw scans to --raw"
"""Ends the warning of images with more than a brain."""
CONTENT_SAMPLE = 4096  # voxels of the first, quick look
OUTLIER = 100.0  # times the 99th percentile


def check_content(volumes: dict[Path, Volume]) -> list[str]:
    """Warnings from reading the images, and of voxels far beyond all others.

    Raises CaseError, naming the file, for an image that is empty or constant.
    """
    return [
        warning
        for path, volume in volumes.items()
        if volume.absent is None
        for warning in (*volume.warnings, *_content_warnings(path, volume.data))
    ]


def oddities(volumes: dict[Path, Volume], cropped: Cropped) -> list[str]:
    """Warnings for a usable case that differs from the training data."""
    case, restore = next(iter(volumes)).parent, cropped.restore
    warnings = []
    if restore.resampled:
        warnings.append(f"{case}: voxels of {size_text(restore.spacing)} mm were resampled to 1 mm and back")
    present = {path: volume for path, volume in volumes.items() if volume.absent is None}
    warnings += _copies(present)
    warnings += _grid_warnings(case, cropped)
    counts = [count for count, volume in zip(cropped.counts, volumes.values(), strict=True) if volume.absent is None]
    return warnings + _missing_parts(present, counts)


def _content_warnings(path: Path, data: NDArray[Any]) -> list[str]:
    """Warns of voxels far beyond all others. Raises CaseError for an empty or constant image."""
    flat = data.ravel(order="K")
    sample = flat[:: max(1, flat.size // CONTENT_SAMPLE) | 1]  # an even step may hit only the grid's edge
    some = sample[sample != 0]
    if np.unique(some).size < 2:
        some = flat[flat != 0]
        if some.size == 0:
            raise CaseError(f"{path}: every voxel is 0: export the image again")
        if some.min() == some.max():
            raise CaseError(f"{path}: every voxel inside the brain has the value {some[0]:g}: export the image again")
    usual = float(np.percentile(np.abs(some.astype(np.float64)), 99))
    peak = max(float(flat.max()), -float(flat.min()))
    if peak <= OUTLIER * usual:
        return []
    return [f"{path}: holds a voxel of {peak:.3g} where {usual:.3g} is usual, which can spoil the map: mend the image"]


def _missing_parts(paths: Iterable[Path], voxels: Sequence[int]) -> list[str]:
    """Warns of an image that is 0 in most of the brain, from each image's count of non-zero `voxels`."""
    return [
        f"{path}: is 0 in {1 - count / max(voxels):.0%} of the brain, which can spoil the map: export the image again"
        for path, count in zip(paths, voxels, strict=True)
        if count < COVERAGE_WARNING * max(voxels)
    ]


def _copies(volumes: dict[Path, Volume]) -> list[str]:
    """Warns where a contrast holds the voxels of another one."""
    return [
        f"{path}: holds the same voxels as {other.name}: one of the two is not the contrast that its name says"
        for (other, a), (path, b) in combinations(volumes.items(), 2)
        if np.array_equal(a.data[..., a.data.shape[2] // 2], b.data[..., b.data.shape[2] // 2])
        and np.array_equal(a.data, b.data)
    ]


def _grid_warnings(case: Path, cropped: Cropped) -> list[str]:
    """Warns of a tilted grid, and of images with more than a brain."""
    warnings = []
    geometry = cropped.restore.geometry
    directions = np.abs(geometry.affine[:3, :3] / geometry.spacing)
    tilt = float(np.degrees(np.arccos(np.clip(directions.max(axis=0), 0, 1)).max()))
    if tilt > TILT_WARNING:
        warnings.append(f"{case}: its axes are tilted by {tilt:.0f} degrees: register it to the atlas for good results")
    share, litres = cropped.brain_share, cropped.brain_litres
    if share > BRAIN_SHARE_WARNING or litres > BRAIN_LITRES_WARNING:
        fills = f"{litres:.2f} litres ({share:.0%} of the grid), a brain 1.0 to 1.9"
        warnings.append(f"{case}: what is not 0 fills {fills}: {SKULL_LEFT}")
    return warnings
