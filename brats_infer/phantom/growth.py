"""Tumors: where they start, how they displace tissue, how they spread (labels 1 NCR, 2 ED, 3 ET).

The core is an irregular blob that displaces tissue. Edema is a reaction-diffusion front (Fisher-KPP, as in Swanson
2000) that starts from the core. It is fast in white matter, slow in grey matter, and fluid stops it.
"""

from dataclasses import dataclass, field

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw, blur, grid_of, smooth_noise
from brats_infer.phantom.settings import Growth
from brats_infer.tasks import ED, ET, NCR

STEP_MM = 2  # voxel size of the front's grid
MAX_STEPS = 220
SPEED = {  # of the front, relative to white matter
    Tissue.WHITE: 1.0,
    Tissue.CORTEX: 0.16,
    Tissue.DEEP_GREY: 0.3,
    Tissue.PALLIDUM: 0.3,
    Tissue.BRAINSTEM: 0.35,
    Tissue.CEREBELLAR_WHITE: 0.7,
    Tissue.CEREBELLAR_CORTEX: 0.3,
}
SITES = {  # shares of the centres; below the tentorium more often than in life, so that networks look there
    Tissue.WHITE: 0.78,
    Tissue.DEEP_GREY: 0.06,
    Tissue.CORTEX: 0.05,
    Tissue.CEREBELLAR_WHITE: 0.06,
    Tissue.CEREBELLAR_CORTEX: 0.03,
    Tissue.BRAINSTEM: 0.02,
}


@dataclass(frozen=True)
class Lesion:
    """The plan of one lesion; lengths in mm, which are voxels."""

    centre: tuple[float, float, float]
    radius: float
    """Of a ball of the core's volume."""
    rim: float
    """Thickness of the enhancing rim; 0 for none."""
    edema: float
    """Volume of the edema over that of the core."""
    push: float
    """Share of the core's volume that displaces tissue instead of replacing it."""
    low_grade: bool = False
    """The core is solid: no rim, at most some enhancing spots."""
    rough: float = 0.35
    """How far the core's surface departs from an ellipsoid, as a share of the radius."""
    axes: NDArray[np.float64] = field(default_factory=lambda: np.eye(3))
    """(3, 3): maps an offset from the centre to a space in which the core is a ball."""


def plan_lesions(draw: Draw, tissues: Tensor, growth: Growth) -> list[Lesion]:
    """One to three lesions, the first the largest."""
    count = 1 + int(draw.rng.choice(3, p=(0.75, 0.17, 0.08)))
    low_grade = growth.low_grade_share > 0 and draw.chance(growth.low_grade_share)
    lesions: list[Lesion] = []
    for number in range(1 if low_grade else count):
        scale = 1.0 if number == 0 else draw.uniform(0.25, 0.6)
        first = lesions[0] if lesions and draw.chance(0.55) and not growth.extra_axial else None
        lesions.append(_plan(draw, tissues, growth, scale, low_grade, near=first))
    return lesions


def _plan(draw: Draw, tissues: Tensor, growth: Growth, scale: float, low_grade: bool, near: Lesion | None) -> Lesion:
    """A lesion whose radius is multiplied by `scale`, close to the lesion `near` where there is one."""
    low, high = growth.radius_mm
    radius = scale * (draw.uniform(16.0, 33.0) if low_grade else low + (high - low) * float(draw.rng.beta(1.6, 1.8)))
    stretch = np.exp(draw.rng.uniform(-0.25, 0.25, 3))
    turn, _ = np.linalg.qr(draw.rng.standard_normal((3, 3)))
    if growth.extra_axial:
        return Lesion(
            _surface_centre(draw, tissues),
            radius,
            rim=radius * 3 if draw.chance(0.8) else draw.uniform(0.4, 0.8) * radius,
            edema=draw.uniform(0.2, 3.0) if draw.chance(0.6) else 0.0,
            push=draw.uniform(0.6, 0.95),
            rough=draw.uniform(0.05, 0.25),
            axes=np.diag(np.exp(draw.rng.uniform(-0.15, 0.15, 3))) @ turn,
        )
    return Lesion(
        _inner_centre(draw, tissues, near),
        radius,
        rim=draw.uniform(2.5, 9.0) if draw.chance(0.75) else radius * draw.uniform(0.5, 2.0),
        edema=draw.uniform(0.2, 1.5) if low_grade else float(np.exp(draw.uniform(np.log(0.6), np.log(5.0)))),
        push=draw.uniform(0.1, 0.7),
        low_grade=low_grade,
        rough=draw.uniform(0.2, 0.5),
        axes=np.diag(stretch) @ turn,
    )


def _inner_centre(draw: Draw, tissues: Tensor, near: Lesion | None) -> tuple[float, float, float]:
    """A voxel drawn by `SITES`, within 40 mm of the lesion `near` if it can be."""
    wanted = list(SITES)[int(draw.rng.choice(len(SITES), p=list(SITES.values())))]
    where = (tissues == wanted).nonzero()
    if not len(where):
        where = (tissues > 0).nonzero()
    if near is not None:
        away = (where - torch.tensor(near.centre, device=where.device)).float().norm(dim=1)
        close = where[(away > near.radius) & (away < near.radius + 40)]
        where = close if len(close) else where
    x, y, z = (float(v) for v in where[int(draw.rng.integers(len(where)))])
    return x, y, z


def _surface_centre(draw: Draw, tissues: Tensor) -> tuple[float, float, float]:
    """A voxel at the brain's surface, sometimes in the cleft between the hemispheres."""
    inside = (tissues > 0).float()[None, None]
    shell = (functional.avg_pool3d(inside, 5, 1, 2)[0, 0] < 0.9) & (tissues > 0)
    if draw.chance(0.2):
        middle = tissues.shape[0] // 2
        cleft = torch.zeros_like(shell)
        cleft[middle - 3 : middle + 3] = tissues[middle - 3 : middle + 3] == Tissue.CSF
        shell = cleft if bool(cleft.any()) else shell
    where = shell.nonzero()
    x, y, z = (float(v) for v in where[int(draw.rng.integers(len(where)))])
    return x, y, z


def displacement(lesion: Lesion, at: Tensor) -> Tensor:
    """(3, X, Y, Z): the offset from each point of `at` to the place from which the lesion pushed its tissue.

    The core acts as an incompressible ball. The push fades with the distance.
    """
    offset = at - torch.tensor(lesion.centre, device=at.device).reshape(3, 1, 1, 1)
    away = offset.square().sum(dim=0).sqrt().clamp_min(1e-3)
    pushed = (away**3 - lesion.push * lesion.radius**3 * torch.exp(-away / (2.5 * lesion.radius))).clamp_min(0)
    return offset * (pushed.pow(1 / 3) / away - 1)


def grow(draw: Draw, lesions: list[Lesion], tissues: Tensor, growth: Growth) -> Tensor:
    """(X, Y, Z) uint8: the labels of the lesions in tissues that are displaced already."""
    labels = torch.zeros_like(tissues)
    at = grid_of(tuple(tissues.shape), tissues.device)
    solid = (tissues > 0) & (tissues != Tissue.CSF) & (tissues != Tissue.VENTRICLE)
    for lesion in lesions:
        depth = depth_of(draw, lesion, at)
        where = tissues > 0 if growth.extra_axial else solid | ((depth > 0.25 * lesion.radius) & (tissues > 0))
        core = largest((depth > 0) & where)
        edema = attached(_edema(draw, lesion, core, tissues), core)
        labels = torch.where(edema & (labels == 0), ED, labels)
        labels = torch.where(core, _inner_labels(draw, lesion, depth), labels)
    return labels.to(torch.uint8)


def largest(mask: Tensor) -> Tensor:
    """(X, Y, Z) bool: the largest component, since a lesion is in one piece."""
    kept = cc3d.largest_k(mask.cpu().numpy(), k=1, connectivity=26)
    return torch.from_numpy(kept > 0).to(mask.device)


def attached(mask: Tensor, core: Tensor) -> Tensor:
    """(X, Y, Z) bool: the components of a mask that touch the core.

    A front leaves small pieces beyond thin fluid. Experts outline no such pieces: in ten real cases the whole tumor is
    one component.
    """
    inside = core.cpu().numpy()
    components = cc3d.connected_components(mask.cpu().numpy() | inside, connectivity=26)
    kept = np.isin(components, np.unique(components[inside]))
    return mask & torch.from_numpy(kept).to(mask.device)


def depth_of(draw: Draw, lesion: Lesion, at: Tensor) -> Tensor:
    """(X, Y, Z): the depth below the core's surface in mm, roughly; negative outside."""
    offset = at - torch.tensor(lesion.centre, device=at.device).reshape(3, 1, 1, 1)
    axes = torch.from_numpy(lesion.axes).float().to(at.device)
    away = torch.einsum("ij,jxyz->ixyz", axes, offset).square().sum(dim=0).sqrt()
    shape = tuple(at.shape[1:])
    bumps = smooth_noise(draw, shape, 1.1 * lesion.radius)[0] + 0.4 * smooth_noise(draw, shape, 0.4 * lesion.radius)[0]
    fine = 0.5 * smooth_noise(draw, shape, 4)[0]
    return lesion.radius * (1 + lesion.rough * bumps.clamp(-1.8, 1.8)) + fine - away


def _inner_labels(draw: Draw, lesion: Lesion, depth: Tensor) -> Tensor:
    """(X, Y, Z): NCR or ET for every voxel, as if each were core."""
    shape = tuple(depth.shape)
    if lesion.low_grade:
        spots = smooth_noise(draw, shape, 9)[0] + 0.5 * smooth_noise(draw, shape, 4)[0]
        limit = draw.uniform(1.6, 3.0) if draw.chance(0.7) else torch.inf
        return torch.where(spots > limit, ET, NCR)
    uneven = smooth_noise(draw, shape, 0.8 * lesion.radius)[0] + 0.6 * smooth_noise(draw, shape, 7)[0]
    thickness = lesion.rim * (1 + draw.uniform(0.3, 0.9) * uneven)
    gaps = smooth_noise(draw, shape, 0.9 * lesion.radius)[0] > draw.uniform(0.9, 2.5)  # where the rim does not enhance
    enhancing = (depth < thickness) & ~gaps
    if draw.chance(0.5):  # nodules and strands inside of the core
        enhancing = enhancing | (smooth_noise(draw, shape, 8)[0] > draw.uniform(1.0, 2.2))
    return torch.where(enhancing, ET, NCR)


def _edema(draw: Draw, lesion: Lesion, core: Tensor, tissues: Tensor) -> Tensor:
    """(X, Y, Z) bool: the voxels that the front has reached when it holds the planned volume."""
    wanted = lesion.edema * float(core.sum())
    if wanted < 50:
        return torch.zeros_like(core)
    shape = tuple(tissues.shape)
    table = torch.zeros(max(Tissue) + 1, device=tissues.device)
    for tissue, value in SPEED.items():
        table[tissue] = value
    jitter = torch.exp(0.7 * smooth_noise(draw, shape, 12)[0])
    speed = _coarse(blur((table[tissues.long()] * jitter)[None], 0.6)[0] * (table[tissues.long()] > 0))
    open_to = speed > 0.02
    front = _coarse(core.float())
    goal = (wanted + float(core.sum())) / STEP_MM**3
    for _ in range(MAX_STEPS):
        front = _advance(front, speed, open_to)
        if float((front > 0.5).sum()) >= goal:
            break
    fine = functional.interpolate(front[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]
    fringe = 0.12 * smooth_noise(draw, shape, 5)[0]
    return (fine + fringe > 0.5) & (table[tissues.long()] > 0)


def _advance(u: Tensor, speed: Tensor, open_to: Tensor) -> Tensor:
    """One explicit step of u' = div(D grad u) + r u (1 - u) on the coarse grid; no flow outside of `open_to`."""
    rate = torch.zeros_like(u)
    for axis in range(3):
        n = u.shape[axis] - 1
        flow = (u.narrow(axis, 1, n) - u.narrow(axis, 0, n)) * torch.minimum(
            speed.narrow(axis, 1, n), speed.narrow(axis, 0, n)
        )
        rate.narrow(axis, 0, n).add_(flow)
        rate.narrow(axis, 1, n).sub_(flow)
    return (u + 0.12 * rate.clamp(-4, 4) + 0.25 * speed.clamp(max=1.5) * u * (1 - u)).clamp(0, 1) * (
        open_to | (u > 0.9)
    )


def _coarse(x: Tensor) -> Tensor:
    """(X, Y, Z) -> means of blocks of `STEP_MM` voxels along each axis."""
    out: Tensor = functional.avg_pool3d(x[None, None], STEP_MM, ceil_mode=True)[0, 0]
    return out
