"""Phantoms on disk, with labels, in the layout and on the grid of their challenge."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations as nio
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import read_volume, write_image, write_labels
from brats_infer.image.crop import CANONICAL_AXES
from brats_infer.phantom.ellipsoid import ellipsoid_case
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.make import make_phantom
from brats_infer.phantom.scanner import to_integers
from brats_infer.phantom.settings import CAVITY, CYST, Grid, Range, Sides, label_table
from brats_infer.phantom.task_recipes import Recipe, recipe_of
from brats_infer.tasks import Task, task_named

CASES_A_SEED = 1000
ELLIPSOID = "ellipsoid"
LEAST_MM3 = 0.5  # of a voxel of a native grid; smaller ones make files of over 100 MB

Maker = Callable[[int], tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]]


def write_cohort(
    folder: Path,
    task_name: str,
    count: int,
    seed: int,
    anatomy: str = ELLIPSOID,
    shape: Sides | None = None,
) -> Iterator[str]:
    """Writes `{ID}/{ID}-{modality}.nii.gz` and `{ID}/{ID}-seg.nii.gz` case by case. Yields each ID.

    The grid is the challenge's, or one of `shape`.

    `anatomy` is a folder of label maps, `mni152` (of nilearn) or `ellipsoid`, a simple brain. Same seed and number of
    threads: same bytes. A file with other content is never replaced, since its ID may be that of a real case. Raises
    UsageError for such a file, a task without phantoms, an unusable anatomy and more cases than a seed has; and
    OutputError.
    """
    if count > CASES_A_SEED:
        raise UsageError(f"--cases {count}: a seed has {CASES_A_SEED}: make the others with another --seed")
    recipe = recipe_of(task_name)
    grid = recipe.grid.with_shape(shape)
    make = _ellipsoids(recipe, grid) if anatomy == ELLIPSOID else _phantoms(recipe.anatomies(anatomy), task_name, grid)
    for number in range(count):
        images, labels, geometry = make(seed * CASES_A_SEED + number)
        case_id = recipe.case_id(seed * CASES_A_SEED + number)
        target = folder / case_id
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{target}: cannot be made ({error.strerror}): choose another --out") from error
        _write_case(target, task_named(task_name), images, labels, geometry)
        yield case_id


def _write_case(
    folder: Path, task: Task, images: NDArray[np.int16], labels: NDArray[np.uint8], geometry: Geometry
) -> None:
    """Writes a task's images (C, X, Y, Z) and labels (X, Y, Z). Raises UsageError for a file of other content."""
    names = [folder / f"{folder.name}{modality.suffixes[0]}.nii.gz" for modality in task.modalities]
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


def _ellipsoids(recipe: Recipe, grid: Grid) -> Maker:
    geometry = Geometry.of_affine(grid.shape, np.array(grid.affines[1]))
    table, channels = label_table(recipe.labels), list(recipe.scanner.channels)
    watery = next((part for part in (CAVITY, CYST) if part in recipe.labels), None)

    def make(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]:
        images, parts = ellipsoid_case(seed, grid.shape, watery)
        return images[channels], table[parts], geometry

    return make


def _phantoms(anatomies: Sequence[Tensor], task_name: str, grid: Grid) -> Maker:
    def make(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8], Geometry]:
        phantom = make_phantom(anatomies, task_name, seed)
        draw = Draw.of_seed(seed, torch.device("cpu"))
        affine = np.array(grid.affines[0 if draw.chance(0.5) else 1])
        volumes = torch.cat((to_integers(draw, phantom.images), phantom.labels[None].to(torch.int16)))
        shape = grid.shape
        if grid.native_mm:
            volumes, spacing = on_native_grid(draw, volumes, *grid.native_mm)
            affine = affine @ np.diag([*spacing, 1.0])
            _, *sides = volumes.shape
            shape = sides[0], sides[1], sides[2]
        *images, labels = on_grid(volumes.numpy(), shape, affine)
        return np.stack(images), labels.astype(np.uint8), Geometry.of_affine(shape, affine)

    return make


def on_native_grid(
    draw: Draw, volumes: Tensor, plane_mm: Range, slice_mm: Range
) -> tuple[Tensor, tuple[float, float, float]]:
    """(C, X, Y, Z) int16 at 1 mm, labels last -> the same on voxels of a random size, and their edges in mm."""
    edge = draw.uniform(*plane_mm)
    spacing = edge, edge, max(draw.uniform(*slice_mm), LEAST_MM3 / edge**2)
    shape = [round(n / mm) for n, mm in zip(volumes.shape[1:], spacing, strict=True)]
    images, labels = volumes[None, :-1].float(), volumes[None, -1:].float()
    images = functional.interpolate(images, size=shape, mode="trilinear", align_corners=False).round()
    labels = functional.interpolate(labels, size=shape, mode="nearest-exact")
    return torch.cat((images, labels), dim=1)[0].to(torch.int16), spacing


def on_grid(volumes: NDArray[np.int16], shape: Sides, affine: NDArray[np.float64]) -> NDArray[np.int16]:
    """(C, X, Y, Z) on canonical axes -> the same in the middle of a grid of `shape`, its axes as `affine` says."""
    margins = [(0, 0), *(((g - n) // 2, g - n - (g - n) // 2) for n, g in zip(volumes.shape[1:], shape, strict=True))]
    turn = nio.ornt_transform(nio.axcodes2ornt(CANONICAL_AXES), nio.axcodes2ornt(nib.aff2axcodes(affine)))
    return np.stack([nio.apply_orientation(v, turn) for v in np.pad(volumes, margins)])
