"""Whole heads: label maps with codes outside of the brain -> one image of any contrast, and its brain mask.

The recipe is SynthStrip's (Hoopes et al. 2022, arXiv 2203.09974): a random intensity for every label, bent, blurred,
sliced and cut as scanners do. Real brains can take the place of the drawn ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
import torch
from nibabel import orientations as nio
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_infer.errors import UsageError
from brats_infer.files.unpack import READ_ERRORS
from brats_infer.image.crop import CANONICAL_AXES
from brats_infer.phantom.anatomy import FREESURFER, MENINGES, Tissue
from brats_infer.phantom.fields import Draw, blur, grid_of, random_affine, sample, smooth_noise
from brats_infer.phantom.scanner import rician, thick_slices


class Outer(IntEnum):
    """What lies outside of the brain; the numbers continue those of `Tissue`."""

    FLUID = 10
    SOFT = 11
    SKIN = 12
    BONE = 13
    MARROW = 14
    MUCOSA = 15
    CORD = 16
    DURA = 17
    OTHER = 18


SYNTHSEG = {
    Outer.SOFT: (507,),
    Outer.SKIN: (511,),
    Outer.BONE: (515,),
    Outer.MARROW: (516,),
    Outer.MUCOSA: (509,),
    Outer.CORD: (512,),
    Outer.DURA: (514,),
}
"""SynthSeg's codes outside of the brain; its other codes from 500 on are `OTHER`."""
MATERIALS = int(Outer.OTHER) + 1
T1, T2, FLAIR = "t1", "t2", "flair"
BRIGHTNESS: dict[str, tuple[float, ...]] = {
    T1: (0.0, 0.15, 0.12, 0.5, 0.75, 0.6, 0.68, 0.5, 0.72, 0.68, 0.15, 0.65, 0.6, 0.06, 0.8, 0.45, 0.65, 0.4, 0.5),
    T2: (0.0, 0.95, 1.0, 0.55, 0.38, 0.45, 0.32, 0.55, 0.4, 0.42, 0.95, 0.4, 0.45, 0.06, 0.5, 0.75, 0.45, 0.35, 0.4),
    FLAIR: (0.0, 0.12, 0.1, 0.62, 0.48, 0.55, 0.42, 0.6, 0.48, 0.5, 0.12, 0.45, 0.5, 0.06, 0.45, 0.6, 0.5, 0.45, 0.4),
}
"""Typical intensities of `Tissue` and `Outer` in three sequences, as shares of the brightest."""


@dataclass(frozen=True)
class Head:
    """A head on canonical axes at 1 mm."""

    materials: Tensor
    """(X, Y, Z) uint8: `Tissue` in the brain and `Outer` around it; 0 is air."""
    brain: Tensor
    """(X, Y, Z) bool."""


@dataclass(frozen=True)
class RealBrain:
    """A skull-stripped image on canonical axes at 1 mm."""

    image: Tensor
    """(X, Y, Z) float32; its 99th percentile in the brain is 1, background is 0."""
    brain: Tensor
    """(X, Y, Z) bool."""


@dataclass(frozen=True)
class DrawnHead:
    """An image of one contrast, on its own grid."""

    image: Tensor
    """(X, Y, Z) float32, not negative."""
    brain: Tensor
    """(X, Y, Z) the share of brain in each voxel, 0 to 1."""
    places: Tensor
    """(3, X, Y, Z): where each voxel lies in the head, or in the real brain, in voxels of that."""


def load_heads(folder: Path) -> list[Head]:
    """The heads of a folder's `*.nii.gz` label maps with SynthSeg's codes. Raises UsageError."""
    heads = [_read_head(path) for path in sorted(folder.glob("*.nii.gz"))]
    if not heads:
        raise UsageError(f"{folder}: holds no label map (*.nii.gz) of a head: choose another --heads")
    return heads


def _read_head(path: Path) -> Head:
    try:
        image = nib.load(path)
        codes = np.asarray(image.dataobj).astype(np.int64)
    except (*READ_ERRORS, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}): remove it or choose another --heads") from error
    if codes.ndim != 3 or codes.max() < 500:
        raise UsageError(f"{path}: holds no codes outside of the brain: take label maps of whole heads (SynthSeg)")
    turn = nio.ornt_transform(nio.io_orientation(image.affine), nio.axcodes2ornt(CANONICAL_AXES))
    return head_of(np.asarray(nio.apply_orientation(codes, turn)))


def head_of(codes: NDArray[np.int64]) -> Head:
    """(X, Y, Z) SynthSeg codes on canonical axes at 1 mm -> head."""
    lookup = np.zeros(int(codes.max()) + 1, np.uint8)
    lookup[500:] = Outer.OTHER
    for material, members in (*FREESURFER.items(), *SYNTHSEG.items()):
        for code in members:
            if 0 < code < len(lookup):
                lookup[code] = material
    materials = lookup[np.maximum(codes, 0)]
    solid = (materials > Tissue.CSF) & (materials < Outer.FLUID)
    fluid = materials == Tissue.CSF
    box = tuple(slice(max(0, s.start - 8), s.stop + 8) for s in ndimage.find_objects(solid.astype(np.uint8))[0])
    near = np.zeros_like(fluid)
    near[box] = fluid[box] & (ndimage.distance_transform_edt(~solid[box]) <= MENINGES)
    brain = cc3d.largest_k(solid | near, k=1, connectivity=6) > 0
    brain = ndimage.binary_closing(brain, iterations=2) | brain  # the falx and the straight sinus
    brain = ndimage.binary_fill_holes(brain)
    materials[fluid & ~brain] = Outer.FLUID
    return Head(torch.from_numpy(materials), torch.from_numpy(brain))


@torch.inference_mode()
def draw_head(
    draw: Draw, heads: Sequence[Head], side: tuple[int, int, int], spacing: float, real: RealBrain | None = None
) -> DrawnHead:
    """An image of `side` voxels of `spacing` mm. With `real`, the head is fitted around that brain."""
    head = heads[int(draw.rng.integers(len(heads)))]
    centre = box_of(real.brain if real else head.brain)[0]
    at = _bent(draw, side, spacing, centre)
    if real is None:
        materials = sample(head.materials[None], at)[0].to(torch.uint8)
        brain = sample(head.brain[None], at, "bilinear")[0]
        image = paint(draw, materials)
    else:
        brain = sample(real.brain[None], at, "bilinear")[0]
        outer = _around(head, real, at, brain > 0.5)
        inside = sample(real.image[None], at, "bilinear")[0]
        image = torch.where(brain > 0.5, inside * draw.uniform(0.4, 1.0) + 0.02, paint(draw, outer))
    if draw.chance(0.5):
        image = _lesions(draw, image, brain > 0.5)
    image = _stripped(draw, image, brain > 0.5)
    image = _scanned(draw, image)
    seen = _field_of_view(draw, side)
    return DrawnHead(image * seen, brain * seen, at)


def box_of(brain: Tensor) -> tuple[Tensor, Tensor]:
    """The middle and the sides of a mask's bounding box, in voxels: two of shape (3,)."""
    where = brain.nonzero().float()
    low, high = where.amin(0), where.amax(0)
    return (low + high) / 2, high - low + 1


def paint(draw: Draw, materials: Tensor) -> Tensor:
    """(X, Y, Z) materials -> intensities: as a known sequence shows them, or random ones; with texture."""
    if draw.chance(0.6):
        typical = np.array(BRIGHTNESS[(T1, T2, FLAIR)[int(draw.rng.integers(3))]])
        means = typical + draw.rng.normal(0, draw.uniform(0.02, 0.15), MATERIALS)
    else:
        means = draw.rng.uniform(0, 1, MATERIALS)
    means[0] = 0.0 if draw.chance(0.8) else draw.uniform(0, 0.1)
    table = torch.from_numpy(np.clip(means, 0, 1.2)).float()
    spread = torch.from_numpy(draw.rng.uniform(0.0, 0.12, MATERIALS)).float()
    shape = tuple(materials.shape)
    texture = smooth_noise(draw, shape, draw.uniform(2, 8))[0]
    known = materials.long()
    return (table[known] + spread[known] * texture).clamp_min(0)


def _bent(draw: Draw, side: tuple[int, int, int], spacing: float, centre: Tensor) -> Tensor:
    """(3, X, Y, Z): the place of each voxel in the head, in its voxels: turned, zoomed, bent and moved."""
    matrix = torch.from_numpy(random_affine(draw, 0.35, (0.85, 1.15), 0.06)).float() * spacing
    own = grid_of(side, torch.device("cpu"))
    middle = torch.tensor(side).reshape(3, 1, 1, 1) / 2
    own = own - middle + torch.from_numpy(draw.rng.normal(0, 5, (3, 1, 1, 1))).float()
    own = own + draw.uniform(0, 1.5) * smooth_noise(draw, side, 22, 3)
    return torch.einsum("ij,jxyz->ixyz", matrix, own) + centre.reshape(3, 1, 1, 1)


def _around(head: Head, real: RealBrain, at: Tensor, brain: Tensor) -> Tensor:
    """(X, Y, Z) uint8: a head's outer materials, fitted to a real brain by the boxes of both brains."""
    (own, sides), (centre, real_sides) = box_of(head.brain), box_of(real.brain)
    scale = (sides / real_sides).reshape(3, 1, 1, 1)
    there = (at - centre.reshape(3, 1, 1, 1)) * scale + own.reshape(3, 1, 1, 1)
    inside = sample(head.brain[None], there)[0] > 0.5
    outer = sample(head.materials[None], there)[0].to(torch.uint8)
    nearest = ndimage.distance_transform_edt(inside.numpy(), return_distances=False, return_indices=True)
    outer = torch.from_numpy(outer.numpy()[tuple(nearest)])
    return torch.where(brain, int(Outer.FLUID), outer)


def _lesions(draw: Draw, image: Tensor, brain: Tensor) -> Tensor:
    """(X, Y, Z) with one to three lesions or cavities of any brightness, often at the brain's surface."""
    places = brain.nonzero().float()
    if not len(places):
        return image
    own = grid_of(tuple(image.shape), image.device)
    for _ in range(int(draw.rng.integers(1, 4))):
        place = places[int(draw.rng.integers(len(places)))].reshape(3, 1, 1, 1)
        radius = draw.uniform(2, 14)
        shape = 1 + 0.3 * smooth_noise(draw, tuple(image.shape), 8)[0]
        share = torch.sigmoid((radius * shape - (own - place).norm(dim=0)) / draw.uniform(0.3, 2)) * brain
        image = image + share * (draw.uniform(0, 1.2) - image) * draw.uniform(0.4, 1)
    return image


def _stripped(draw: Draw, image: Tensor, brain: Tensor) -> Tensor:
    """(X, Y, Z): sometimes without what lies further from the brain than some mm; sometimes without any head."""
    if not draw.chance(0.15):
        return image
    reach = 0.0 if draw.chance(0.5) else draw.uniform(1, 8)
    distance = torch.from_numpy(ndimage.distance_transform_edt(~brain.numpy())).float()
    return torch.where(distance <= reach, image, 0)


def _scanned(draw: Draw, image: Tensor) -> Tensor:
    """(X, Y, Z) as a scanner sends it: blurred, of thick slices, with bias field and noise."""
    shape = tuple(image.shape)
    image = blur(image[None], draw.uniform(0.1, 0.8))[0]
    if draw.chance(0.5):
        image = thick_slices(image, int(draw.rng.integers(3)), draw.uniform(1, 3.2))
    image = image * (draw.uniform(0, 0.3) * smooth_noise(draw, shape, draw.uniform(25, 70))[0]).exp()
    image = image.clamp_min(0).pow(draw.uniform(0.7, 1.4))
    return rician(draw, image, draw.uniform(0.0, 0.06))


def _field_of_view(draw: Draw, side: tuple[int, int, int]) -> Tensor:
    """(X, Y, Z) float: 1 where the scanner looked; often a slab is missing at one end."""
    seen = torch.ones(side)
    if draw.chance(0.35):
        axis, cut = int(draw.rng.integers(3)), int(draw.rng.integers(1, 24))
        seen.narrow(axis, 0 if draw.chance(0.5) else side[axis] - cut, cut).zero_()
    return seen
