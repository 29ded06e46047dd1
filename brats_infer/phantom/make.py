"""One phantom: bends an anatomy, grows a tumor in it, paints its contrasts, scans them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from brats_infer.phantom.anatomy import MARGIN, Tissue
from brats_infer.phantom.around.head import FIRST, paint_head, visible
from brats_infer.phantom.around.surroundings import paint_remains, remains
from brats_infer.phantom.contrast import paint
from brats_infer.phantom.fields import Draw, blur, grid_of, random_affine, sample, smooth_noise
from brats_infer.phantom.growth import Lesion, displacement
from brats_infer.phantom.scanner import scan
from brats_infer.phantom.settings import Sides, label_table
from brats_infer.phantom.task_recipes import recipe_of

Box = tuple[slice, slice, slice]
WILD_SHARE = 0.5  # of the cases, with contrasts far beyond realistic ones
ROTATION = 0.12  # radians
ZOOM = (0.92, 1.1)


@dataclass(frozen=True)
class Phantom:
    """A synthetic case on canonical axes at 1 mm."""

    images: Tensor
    """(C, X, Y, Z) float32, one channel a contrast of the task. Background is exactly 0, unless air holds noise."""
    labels: Tensor
    """(X, Y, Z) uint8: the labels of the task."""


@torch.inference_mode()
def make_phantom(anatomies: Sequence[Tensor], task: str, seed: int, device: torch.device | None = None) -> Phantom:
    """A phantom of a task in one of the anatomies (X, Y, Z), as the task's recipe reads them.

    Same seed, device and number of threads: same phantom. Raises UsageError for a task without phantoms.
    """
    recipe = recipe_of(task)
    draw = Draw.of_seed(seed, device or torch.device("cpu"))
    anatomy = anatomies[int(draw.rng.integers(len(anatomies)))].to(draw.device)
    at = _bent_grid(draw, anatomy, recipe.grid.max_shape)
    whole = _tissues_at(anatomy, at)
    box = _brain_box(whole)
    near, at = whole[box], at[(slice(None), *box)]
    lesions = recipe.plan(draw, torch.where(near < FIRST, near, 0), recipe.growth)
    own = grid_of(tuple(near.shape), draw.device)
    moved = own
    for lesion in lesions:
        if lesion.push:
            moved = moved + displacement(lesion, own)
    tissues = _tissues_at(anatomy, sample(at, moved, "bilinear"))
    tissues = torch.where(tissues < FIRST, tissues, int(Tissue.CSF)) * (near < FIRST)  # a skull does not give way
    tissues = _narrow_sulci(draw, tissues)
    parts = recipe.grow(draw, lesions, tissues, recipe.growth)
    contrast = recipe.low_grade_contrast if lesions[0].low_grade else recipe.contrast
    images = paint(draw, tissues, parts, contrast, draw.chance(WILD_SHARE))
    images, shown = _with_surroundings(draw, images, tissues, whole, box, recipe.scanner.channels)
    images = scan(draw, images, shown, recipe.scanner)
    labels = torch.zeros_like(whole)
    labels[box] = torch.from_numpy(label_table(recipe.labels)).to(parts.device)[parts.long()]
    return Phantom(images, labels * (images != 0).any(dim=0))


def _brain_box(whole: Tensor) -> Box:
    """The brain's bounding box in a whole head, with a margin; all of a map of the brain alone."""
    if not bool((whole >= FIRST).any()):
        return slice(None), slice(None), slice(None)
    where = ((whole > 0) & (whole < FIRST)).nonzero()
    (a, b, c), (d, e, f) = (
        (edge - MARGIN).clamp_min(0).tolist() for edge in (where.amin(0), where.amax(0) + 2 * MARGIN)
    )
    return slice(a, d + 1), slice(b, e + 1), slice(c, f + 1)


def _with_surroundings(
    draw: Draw, images: Tensor, tissues: Tensor, whole: Tensor, box: Box, channels: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Those channels of the images, with what lies around the brain, and what the images show (X, Y, Z) bool.

    Images and tissues are those in the box of the whole anatomy; the results are of all of it.
    """
    if not bool((whole >= FIRST).any()):
        left = remains(draw, tissues)
        return paint_remains(draw, images, left)[list(channels)], (tissues > 0) | left
    head = torch.where(whole >= FIRST, whole, 0)
    head[box] = torch.where(tissues > 0, tissues, head[box])
    head = visible(draw, head)
    inside = torch.zeros((len(channels), *whole.shape), device=images.device)
    inside[(slice(None), *box)] = images[list(channels)]
    return paint_head(draw, inside, head, channels), head > 0


def _tissues_at(anatomy: Tensor, at: Tensor) -> Tensor:
    """(X, Y, Z) uint8: the anatomy at the points `at` (3, X, Y, Z), in voxels."""
    out: Tensor = sample(anatomy[None], at)[0]
    return out.to(torch.uint8)


def _bent_grid(draw: Draw, anatomy: Tensor, max_shape: Sides) -> Tensor:
    """(3, X, Y, Z): the place of each voxel in the anatomy, in voxels.

    It is an affine map, a smooth deformation, and ventricles that grow or shrink.
    """
    matrix = torch.from_numpy(random_affine(draw, ROTATION, (1 / ZOOM[1], 1 / ZOOM[0]), 0.04)).float().to(draw.device)
    reach = np.abs(np.linalg.inv(matrix.cpu().numpy())) @ np.array(anatomy.shape)
    squeeze = np.maximum(1, reach / np.array(max_shape))
    matrix = matrix @ torch.from_numpy(np.diag(squeeze)).float().to(draw.device)
    shape = tuple(int(side) for side in reach / squeeze)
    own = grid_of(shape, draw.device)
    middle = torch.tensor(shape, device=draw.device).reshape(3, 1, 1, 1) / 2
    centre = torch.tensor(anatomy.shape, device=draw.device).reshape(3, 1, 1, 1) / 2
    bent = own + draw.uniform(1, 4) * smooth_noise(draw, shape, 45, 3) + 0.8 * smooth_noise(draw, shape, 18, 3)
    at = torch.einsum("ij,jxyz->ixyz", matrix, bent - middle) + centre
    where = (anatomy == Tissue.VENTRICLE).nonzero().float()
    if len(where):
        x, y, z = (float(v) for v in where.mean(dim=0))
        at = at + displacement(Lesion((x, y, z), 25.0, 0.0, 0.0, draw.uniform(-0.6, 0.7)), at)
    return at


def _narrow_sulci(draw: Draw, tissues: Tensor) -> Tensor:
    """(X, Y, Z): the cortex, grown by 0 to about 2 mm into the fluid around it."""
    cortex = blur((tissues == Tissue.CORTEX).float()[None], 1.2)[0]
    limit = draw.uniform(0.08, 0.45)
    return torch.where((tissues == Tissue.CSF) & (cortex > limit), int(Tissue.CORTEX), tissues)
