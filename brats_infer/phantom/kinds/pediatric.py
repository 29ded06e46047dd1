"""Pediatric tumors: in the midline or below the tentorium, with cysts, half of them hardly enhancing."""

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from brats_infer.phantom.anatomy import Tissue, anatomies_named
from brats_infer.phantom.fields import Draw, grid_of
from brats_infer.phantom.growth import Lesion, depth_of, grow
from brats_infer.phantom.settings import CYST, Growth
from brats_infer.tasks import ET, NCR

SITES = {  # shares of the centres
    Tissue.BRAINSTEM: 0.42,
    Tissue.CEREBELLAR_WHITE: 0.2,
    Tissue.CEREBELLAR_CORTEX: 0.1,
    Tissue.DEEP_GREY: 0.2,
    Tissue.PALLIDUM: 0.08,
}
MIDLINE = 10  # voxels to either side; the place of a tumor in an anatomy without the tissue of `SITES`
ENHANCING_SHARE = 0.5  # of the cases
CYSTIC_SHARE = 0.85
EDEMA_SHARE = 0.6


def closed_brains_named(name: str) -> list[Tensor]:
    """As `anatomies_named`, with fluid in the gaps beside the brainstem, where these tumors grow."""
    return [_closed(anatomy) for anatomy in anatomies_named(name)]


def _closed(anatomy: Tensor) -> Tensor:
    """(X, Y, Z): fluid in what brain surrounds within an axial slice."""
    inside = np.stack([ndimage.binary_fill_holes(plane) for plane in (anatomy.numpy() > 0).transpose(2, 0, 1)], axis=2)
    return torch.where(torch.from_numpy(inside) & (anatomy == 0), int(Tissue.CSF), anatomy).to(torch.uint8)


def plan_pediatric(draw: Draw, tissues: Tensor, growth: Growth) -> list[Lesion]:
    """One lesion."""
    wanted = list(SITES)[int(draw.rng.choice(len(SITES), p=list(SITES.values())))]
    where = (tissues == wanted).nonzero()
    if not len(where):
        where = _low_midline(tissues)
    x, y, z = (float(v) for v in where[int(draw.rng.integers(len(where)))])
    low, high = growth.radius_mm
    radius = low + (high - low) * float(draw.rng.beta(1.6, 1.8))
    enhancing = draw.chance(ENHANCING_SHARE)
    turn, _ = np.linalg.qr(draw.rng.standard_normal((3, 3)))
    return [
        Lesion(
            (x, y, z),
            radius,
            rim=draw.uniform(0.2, 1.0) * radius,
            edema=draw.uniform(0.08, 0.7) if draw.chance(EDEMA_SHARE) else 0.0,
            push=draw.uniform(0.2, 0.7),
            low_grade=not enhancing,
            rough=draw.uniform(0.1, 0.35),
            axes=np.diag(np.exp(draw.rng.uniform(-0.25, 0.25, 3))) @ turn,
        )
    ]


def _low_midline(tissues: Tensor) -> Tensor:
    """(N, 3): voxels of tissue in the midline, in the lower half of the brain."""
    x, _, z = grid_of(tuple(tissues.shape), tissues.device)
    solid = (tissues > Tissue.CSF) & (tissues != Tissue.VENTRICLE)
    middle = (x - x[solid].median()).abs() < MIDLINE
    out: Tensor = (solid & middle & (z <= z[solid].median())).nonzero()
    return out


def grow_pediatric(draw: Draw, lesions: list[Lesion], tissues: Tensor, growth: Growth) -> Tensor:
    """(X, Y, Z) uint8: the parts of the lesion: a core with one to three cysts."""
    parts = grow(draw, lesions, tissues, growth)
    if not draw.chance(CYSTIC_SHARE):
        return parts
    at = grid_of(tuple(tissues.shape), tissues.device)
    for lesion in lesions:
        core = (parts == NCR) | (parts == ET)
        for _ in range(int(draw.rng.integers(1, 4))):
            away = draw.rng.standard_normal(3)
            away *= draw.uniform(0.0, 0.55) * lesion.radius / np.linalg.norm(away)
            x, y, z = (c + float(o) for c, o in zip(lesion.centre, away, strict=True))
            radius = max(2.5, draw.uniform(0.3, 0.65) * lesion.radius)
            cyst = replace(lesion, centre=(x, y, z), radius=radius, rough=draw.uniform(0.05, 0.25))
            parts = torch.where(core & (depth_of(draw, cyst, at) > 0), CYST, parts)
    return parts.to(torch.uint8)
