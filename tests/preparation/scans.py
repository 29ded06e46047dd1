"""Scans of a made-up head: smooth blobs in a brain, seen in any place, with voxels of any size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray
from scipy import ndimage

SIDES = (90, 108, 84)
SEMI_AXES = (62.0, 78.0, 58.0)


def brain_image(seed: int = 0, inverted: bool = False) -> sitk.Image:
    """A stripped brain of 2 mm voxels around (0, 0, 0): an ellipsoid of blobs, brighter on the left; 0 outside."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 2 for n in SIDES], indexing="ij")
    inside = sum((axis / semi) ** 2 for axis, semi in zip((x, y, z), SEMI_AXES, strict=True)) < 1
    blobs = ndimage.gaussian_filter(rng.normal(size=SIDES), 3)
    values = 500 + 2500 * blobs / blobs.std() * 0.1 + x
    values = 1200 - values if inverted else values
    return image_of(np.where(inside, values, 0).astype(np.float32), (2.0, 2.0, 2.0))


def image_of(values: NDArray[np.float32], spacing: Sequence[float]) -> sitk.Image:
    """(X, Y, Z) on ITK's axes, its middle at (0, 0, 0)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetOrigin([-(n - 1) / 2 * mm for n, mm in zip(values.shape, spacing, strict=True)])
    return image


def seen(
    image: sitk.Image, angles: Sequence[float], shift: Sequence[float], spacing: Sequence[float]
) -> tuple[sitk.Image, sitk.Euler3DTransform]:
    """The image as a scanner sees it when the head lies elsewhere, and the transform: a point of it -> of the scan."""
    place = sitk.Euler3DTransform((0.0, 0.0, 0.0), *angles, tuple(shift))
    sides = (200.0, 230.0, 190.0)
    size = [round(side / mm) for side, mm in zip(sides, spacing, strict=True)]
    origin = [s - (n - 1) / 2 * mm for s, n, mm in zip(shift, size, spacing, strict=True)]
    direction = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    back = place.GetInverse()
    scan = sitk.Resample(image, size, back, sitk.sitkLinear, origin, list(spacing), direction)
    mask = sitk.Resample(image != 0, size, back, sitk.sitkNearestNeighbor, origin, list(spacing), direction)
    return sitk.Mask(scan, mask), place


def write_study(folder: Path, contrasts: Sequence[str] = ("t1n", "t1c", "t2w", "t2f")) -> dict[str, sitk.Transform]:
    """A study of the brain in NIfTI, each contrast turned, shifted and of slices of its own."""
    folder.mkdir(parents=True)
    spacings = {"t1n": (2.0, 2.0, 4.0), "t1c": (2.0, 2.0, 2.0), "t2w": (2.0, 4.0, 2.0), "t2f": (4.0, 2.0, 2.0)}
    places = {}
    for number, contrast in enumerate(contrasts):
        rng = np.random.default_rng(number)
        angles, shift = rng.uniform(-0.15, 0.15, 3).tolist(), rng.uniform(-15, 15, 3).tolist()
        scan, places[contrast] = seen(
            brain_image(inverted=contrast in ("t2w", "t2f")), angles, shift, spacings[contrast]
        )
        sitk.WriteImage(sitk.Cast(scan, sitk.sitkInt16), str(folder / f"{contrast}.nii.gz"))
    return places
