"""Gliomas after treatment: a resection cavity, what is left of the tumor at its edge, radiation change."""

from dataclasses import replace

import cc3d
import torch
from torch import Tensor

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw, blur, dilated, grid_of, smooth_noise
from brats_infer.phantom.growth import Lesion, depth_of, grow, largest, plan_lesions
from brats_infer.phantom.settings import BLOOD, CAVITY, RADIATION, RIM, Growth
from brats_infer.tasks import ED, ET, NCR

CAVITY_SHARE = 0.88  # of the cases; the others had a biopsy
TOTAL_SHARE = 0.35  # of the resections; others leave a part of the core
NODULE_SHARE = 0.6  # of the total resections, with enhancing nodules at the edge
RIM_SHARE = 0.5  # of the cavities, with thin enhancement that is no tumor
BLOOD_SHARE = 0.2  # of the cavities
RADIATION_SHARE = 0.7  # of the cases
CRUMB = 60  # voxels; experts outline no smaller pieces of radiation change


def plan_after_treatment(draw: Draw, tissues: Tensor, growth: Growth) -> list[Lesion]:
    """As `plan_lesions`; tissue falls back towards the first lesion, which was operated on."""
    first, *others = plan_lesions(draw, tissues, growth)
    return [replace(first, push=draw.uniform(-0.25, 0.15)), *others]


def grow_after_treatment(draw: Draw, lesions: list[Lesion], tissues: Tensor, growth: Growth) -> Tensor:
    """(X, Y, Z) uint8: the parts of the treated tumor, in displaced tissues."""
    parts = grow(draw, lesions, tissues, growth)
    if draw.chance(CAVITY_SHARE):
        parts = resected(draw, lesions[0], tissues, parts)
    return _irradiated(draw, tissues, parts) if draw.chance(RADIATION_SHARE) else parts


def resected(draw: Draw, lesion: Lesion, tissues: Tensor, parts: Tensor) -> Tensor:
    """(X, Y, Z) uint8: the parts after the lesion's resection."""
    shape = tuple(tissues.shape)
    cavity = _cavity(draw, lesion, tissues)
    solid = (tissues > 0) & (tissues != Tissue.CSF) & (tissues != Tissue.VENTRICLE) & ~cavity
    patches = smooth_noise(draw, shape, 9)[0]
    if draw.chance(TOTAL_SHARE):
        parts = torch.where((parts == NCR) | (parts == ET), ED, parts)
        limit = draw.uniform(0.7, 1.5) if draw.chance(NODULE_SHARE) else torch.inf
        parts = torch.where(solid & dilated(cavity, int(draw.rng.integers(2, 5))) & (patches > limit), ET, parts)
    scar = dilated(cavity, int(draw.rng.integers(1, 4))) & solid & (parts == 0)
    parts = torch.where(scar & (smooth_noise(draw, shape, 12)[0] > draw.uniform(-1.0, 0.7)), ED, parts)
    if draw.chance(RIM_SHARE):
        parts = torch.where(solid & dilated(cavity, 1) & (patches > -0.6) & (parts == ED), RIM, parts)
    parts = torch.where(cavity, CAVITY, parts)
    return (_bled(draw, cavity, parts) if draw.chance(BLOOD_SHARE) else parts).to(torch.uint8)


def _cavity(draw: Draw, lesion: Lesion, tissues: Tensor) -> Tensor:
    """(X, Y, Z) bool: a smooth hole in the lesion that opens towards the brain's surface."""
    at = grid_of(tuple(tissues.shape), tissues.device)
    middle = at[:, tissues > 0].mean(dim=1).cpu()
    centre = torch.tensor(lesion.centre)
    out = (centre - middle) / (centre - middle).norm().clamp_min(1)
    radius = max(4.0, draw.uniform(0.6, 0.9) * lesion.radius)
    ball = replace(lesion, radius=radius, rough=draw.uniform(0.1, 0.25))
    way = centre + draw.uniform(0.5, 1.1) * radius * out
    x, y, z = (float(v) for v in way)
    channel = replace(ball, centre=(x, y, z), radius=draw.uniform(0.5, 0.8) * radius)
    depth = torch.maximum(depth_of(draw, ball, at), depth_of(draw, channel, at))
    return largest((depth > 0) & (tissues > 0))


def _bled(draw: Draw, cavity: Tensor, parts: Tensor) -> Tensor:
    """(X, Y, Z): blood in all of the cavity, or in its back, where it settles while the patient lies."""
    back = grid_of(tuple(cavity.shape), cavity.device)[1]
    level = draw.uniform(0.3, 0.7) if draw.chance(0.6) else 0.0
    return torch.where(cavity & (back >= torch.quantile(back[cavity][:100_000], level)), BLOOD, parts)


def _irradiated(draw: Draw, tissues: Tensor, parts: Tensor) -> Tensor:
    """(X, Y, Z) uint8: radiation change around the ventricles and in deep white matter, on both sides."""
    shape = tuple(tissues.shape)
    near = blur((tissues == Tissue.VENTRICLE).float()[None], draw.uniform(4, 9))[0]
    near = near / near.max().clamp_min(1e-3) + 0.12 * smooth_noise(draw, shape, 9)[0]
    white = (tissues == Tissue.WHITE) & (parts == 0)
    changed = near > draw.uniform(0.2, 0.6)
    if draw.chance(0.6):
        deep = blur((tissues == Tissue.WHITE).float()[None], 3.5)[0] > 0.85
        changed = changed | (deep & (smooth_noise(draw, shape, 16)[0] > draw.uniform(0.3, 1.3)))
    kept = cc3d.dust((white & changed).cpu().numpy(), threshold=CRUMB, connectivity=26) > 0
    return torch.where(torch.from_numpy(kept).to(parts.device), RADIATION, parts).to(torch.uint8)
