"""Volumes of a case in memory, and what is odd about them."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import Volume
from brats_infer.image.crop import crop_to_brain
from brats_infer.image.quality import check_content, oddities


def case_of(images: list[NDArray[np.float32]], affine: NDArray[np.float64]) -> dict[Path, Volume]:
    geometry = Geometry.of_affine(images[0].shape, affine)
    return {Path(f"case/{i}.nii.gz"): Volume(image, geometry) for i, image in enumerate(images)}


def place_numbers(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """An ellipsoid in which each voxel's value tells its place in the world, in a background of 0."""
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    world = nib.affines.apply_affine(affine, at)
    middle = nib.affines.apply_affine(affine, (np.array(shape) - 1) / 2)
    inside = (((world - middle - 1) / (3.5, 5.5, 4.5)) ** 2).sum(axis=-1) < 1
    return np.where(inside, world @ [1, 100, 10_000] + 5e6, 0).astype(np.float32)


def warnings_of(volumes: dict[Path, Volume]) -> list[str]:
    return check_content(volumes) + oddities(volumes, crop_to_brain(volumes))
