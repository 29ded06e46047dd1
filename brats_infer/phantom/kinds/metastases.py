"""Metastases: one to twenty round lesions of 2 to 30 mm at the border of grey and white matter."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw, dilated
from brats_infer.phantom.growth import Lesion, grow
from brats_infer.phantom.kinds.after_treatment import resected
from brats_infer.phantom.settings import Growth
from brats_infer.tasks import ED, ET, NCR

MOST = 20
CEREBELLAR_SHARE, DEEP_SHARE = 0.15, 0.05  # of the lesions
RING_MM = 5.0  # lesions of a larger radius enhance as a ring
RESECTED_SHARE = 0.35  # of the cases with a lesion that is large enough to be resected
RESECTED_MM = 6.0
GAP = 3.0  # mm between two cores


def plan_metastases(draw: Draw, tissues: Tensor, growth: Growth) -> list[Lesion]:
    """Lesions of log-distributed number and radius, the largest first."""
    count = round(float(np.exp(draw.uniform(0, np.log(MOST + 0.49)))))
    low, high = np.log(growth.radius_mm)
    radii = sorted((float(np.exp(draw.uniform(low, high))) for _ in range(max(1, count))), reverse=True)
    borders, lesions = _borders(tissues), list[Lesion]()
    for radius in radii:
        centre = _centre(draw, tissues, borders, radius, lesions)
        lesions += [_lesion(draw, centre, radius)] if centre else []
    return lesions


def grow_metastases(draw: Draw, lesions: list[Lesion], tissues: Tensor, growth: Growth) -> Tensor:
    """(X, Y, Z) uint8: the parts of all lesions, each grown in a box of its own."""
    parts = torch.zeros_like(tissues)
    for lesion in lesions:
        box, own = _box_of(lesion, tuple(tissues.shape))
        there = tissues[box]
        grown = grow(draw, [own], there, growth)
        if lesion.radius <= RING_MM:  # solid
            grown = torch.where(grown == NCR, ET, grown).to(torch.uint8)
        x, y, z = (int(v) for v in own.centre)
        if not bool((grown == ET).any()):  # smaller than a voxel
            grown[x, y, z] = ET
        kept = (parts[box] > 0) & ((grown == 0) | (grown == ED))
        parts[box] = torch.where(kept, parts[box], grown)
    if lesions[0].radius >= RESECTED_MM and draw.chance(RESECTED_SHARE):
        box, own = _box_of(lesions[0], tuple(tissues.shape))
        parts[box] = resected(draw, own, tissues[box], parts[box])
    return parts


def _borders(tissues: Tensor) -> dict[str, Tensor]:
    """{place: (N, 3) voxels where metastases start}; a place that the anatomy lacks is that of the cortex."""
    brain, cerebellum = (
        dilated(tissues == white, 1) & (tissues == grey)
        for white, grey in ((Tissue.WHITE, Tissue.CORTEX), (Tissue.CEREBELLAR_WHITE, Tissue.CEREBELLAR_CORTEX))
    )
    deep = (tissues == Tissue.DEEP_GREY) | (tissues == Tissue.BRAINSTEM)
    places = {"cortex": brain, "cerebellum": cerebellum, "deep": deep}
    found = {name: mask.nonzero() for name, mask in places.items()}
    return {name: voxels if len(voxels) else found["cortex"] for name, voxels in found.items()}


def _centre(
    draw: Draw, tissues: Tensor, borders: dict[str, Tensor], radius: float, others: list[Lesion]
) -> tuple[float, float, float] | None:
    """A voxel at a border whose core touches no other core; None if the brain is too full."""
    place = ("cerebellum", "deep", "cortex")[
        int(draw.rng.choice(3, p=(CEREBELLAR_SHARE, DEEP_SHARE, 1 - CEREBELLAR_SHARE - DEEP_SHARE)))
    ]
    where = borders[place] if len(borders[place]) else (tissues > Tissue.CSF).nonzero()
    free = torch.ones(len(where), dtype=torch.bool, device=where.device)
    for other in others:
        away = (where - torch.tensor(other.centre, device=where.device)).float().norm(dim=1)
        free &= away > 1.2 * (radius + other.radius) + GAP
    where = where[free]
    if not len(where):
        return None
    x, y, z = (float(v) for v in where[int(draw.rng.integers(len(where)))])
    return x, y, z


def _lesion(draw: Draw, centre: tuple[float, float, float], radius: float) -> Lesion:
    """A round lesion; small ones are solid and mostly without edema."""
    edema = draw.chance(0.8 if radius > RING_MM else 0.35)
    turn, _ = np.linalg.qr(draw.rng.standard_normal((3, 3)))
    return Lesion(
        centre,
        radius,
        rim=draw.uniform(0.2, 0.5) * radius if radius > RING_MM and draw.chance(0.85) else 3 * radius,
        edema=float(np.exp(draw.uniform(np.log(1.0), np.log(12.0 if radius < 10 else 6.0)))) if edema else 0.0,
        push=draw.uniform(0.4, 0.9) if radius > RING_MM else 0.0,
        rough=draw.uniform(0.03, 0.16),
        axes=np.diag(np.exp(draw.rng.uniform(-0.1, 0.1, 3))) @ turn,
    )


def _box_of(lesion: Lesion, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], Lesion]:
    """The voxels that a lesion and its edema may reach, and the lesion in their coordinates."""
    reach = int(2.2 * lesion.radius * (1 + lesion.edema) ** (1 / 3)) + 8
    corner = [max(0, int(c) - reach) for c in lesion.centre]
    box = tuple(slice(a, min(n, int(c) + reach + 1)) for a, c, n in zip(corner, lesion.centre, shape, strict=True))
    x, y, z = (c - a for c, a in zip(lesion.centre, corner, strict=True))
    return box, replace(lesion, centre=(x, y, z))
