"""Phantoms on disk, with labels, in the layout of 2023."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations as nio
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import read_volume, write_image, write_labels
from brats_infer.image.crop import CANONICAL_AXES
from brats_infer.phantom.anatomy import anatomies_named
from brats_infer.phantom.ellipsoid import ellipsoid_case
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.make import make_phantom
from brats_infer.phantom.scanner import to_integers
from brats_infer.phantom.task_recipes import recipe_of
from brats_infer.tasks import GRID_AFFINE, GRID_SHAPE, MODALITIES

CASES_A_SEED = 1000
ELLIPSOID = "ellipsoid"
OTHER_AFFINE = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
"""The affine of half of the cases. Real cases of ssa have it."""

Maker = Callable[[int], tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]]


def write_cohort(
    folder: Path,
    task_name: str,
    count: int,
    seed: int,
    anatomy: str = ELLIPSOID,
    shape: tuple[int, int, int] = GRID_SHAPE,
) -> Iterator[str]:
    """Writes `{ID}/{ID}-{modality}.nii.gz` and `{ID}/{ID}-seg.nii.gz` case by case. Yields each ID.

    `anatomy` is a folder of label maps, `mni152` (of nilearn) or `ellipsoid`, a simple brain. Same seed and number of
    threads: same bytes. A file with other content is never replaced, since its ID may be that of a real case. Raises
    UsageError for such a file, a task without phantoms, an unusable anatomy and more cases than a seed has; and
    OutputError.
    """
    if count > CASES_A_SEED:
        raise UsageError(f"--cases {count}: a seed has {CASES_A_SEED}: make the others with another --seed")
    recipe = recipe_of(task_name)
    make = _ellipsoids(shape) if anatomy == ELLIPSOID else _phantoms(anatomies_named(anatomy), task_name, shape)
    for number in range(count):
        images, labels, geometry = make(seed * CASES_A_SEED + number)
        case_id = recipe.id_format.format(seed * CASES_A_SEED + number)
        target = folder / case_id
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{target}: cannot be made ({error.strerror}): choose another --out") from error
        _write_case(target, images, labels, geometry)
        yield case_id


def _write_case(folder: Path, images: NDArray[np.int16], labels: NDArray[np.uint8], geometry: Geometry) -> None:
    """Writes images (4, X, Y, Z) and labels (X, Y, Z). Raises UsageError if one of the files has other content."""
    names = [folder / f"{folder.name}{modality.suffixes[0]}.nii.gz" for modality in MODALITIES]
    files = dict(zip(names, images, strict=True))
    reference = folder / f"{folder.name}-seg.nii.gz"
    for path, voxels in {**files, reference: labels}.items():
        if path.exists() and not _holds(path, voxels):
            raise UsageError(f"{path}: is there already and holds something else: choose another --out or --seed")
    for path, image in files.items():
        write_image(path, image, geometry)
    write_labels(reference, labels, geometry)


def _holds(path: Path, voxels: NDArray[Any]) -> bool:
    """Whether a file holds these voxels (X, Y, Z)."""
    try:
        return np.array_equal(read_volume(path).data, voxels)
    except CaseError:
        return False


def _ellipsoids(shape: tuple[int, int, int]) -> Maker:
    geometry = Geometry.of_affine(shape, np.array(GRID_AFFINE))
    return lambda seed: (*ellipsoid_case(seed, shape), geometry)


def _phantoms(anatomies: Sequence[Tensor], task_name: str, shape: tuple[int, int, int]) -> Maker:
    def make(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]:
        phantom = make_phantom(anatomies, task_name, seed)
        draw = Draw.of_seed(seed, torch.device("cpu"))
        affine = np.array(OTHER_AFFINE if draw.chance(0.5) else GRID_AFFINE)
        volumes = torch.cat((to_integers(draw, phantom.images), phantom.labels[None].to(torch.int16)))
        *images, labels = on_grid(volumes.numpy(), shape, affine)
        return np.stack(images), labels.astype(np.uint8), Geometry.of_affine(shape, affine)

    return make


def on_grid(volumes: NDArray[np.int16], shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.int16]:
    """(C, X, Y, Z) on canonical axes -> the same in the middle of a grid of `shape`, its axes as `affine` says."""
    margins = [(0, 0), *(((g - n) // 2, g - n - (g - n) // 2) for n, g in zip(volumes.shape[1:], shape, strict=True))]
    turn = nio.ornt_transform(nio.axcodes2ornt(CANONICAL_AXES), nio.axcodes2ornt(nib.aff2axcodes(affine)))
    return np.stack([nio.apply_orientation(v, turn) for v in np.pad(volumes, margins)])
