"""Contrast: the intensity of each tissue and each part of a tumor in t1n, t1c, t2w and t2f.

Unit of the means: 0 is about the 5th percentile of healthy tissue, 1 the 95th. The means of tissues are measured on
real pre-operative cases.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.around.surroundings import paint_sinuses
from brats_infer.phantom.fields import Draw, blur, smooth_noise
from brats_infer.phantom.settings import EDEMATOUS, N_PARTS, T1C, T2F, T2W, WATERY, TumorContrast
from brats_infer.tasks import ED, ET, NCR

TISSUE_MEANS: Mapping[Tissue, tuple[float, float, float, float]] = {
    Tissue.CSF: (0.05, 0.08, 1.25, 0.15),
    Tissue.VENTRICLE: (0.0, 0.0, 1.40, 0.0),
    Tissue.CORTEX: (0.55, 0.56, 0.52, 0.78),
    Tissue.WHITE: (0.90, 0.84, 0.26, 0.62),
    Tissue.DEEP_GREY: (0.68, 0.66, 0.40, 0.76),
    Tissue.PALLIDUM: (0.80, 0.77, 0.24, 0.66),
    Tissue.CEREBELLAR_CORTEX: (0.55, 0.57, 0.47, 0.72),
    Tissue.CEREBELLAR_WHITE: (0.80, 0.76, 0.33, 0.66),
    Tissue.BRAINSTEM: (0.80, 0.76, 0.37, 0.66),
}
SINUS_SHARE = 0.7  # of the cases; in others skull stripping removed the sinuses
N_TISSUES = max(Tissue) + 1


def paint(draw: Draw, tissues: Tensor, labels: Tensor, contrast: TumorContrast, wild: bool) -> Tensor:
    """(4, X, Y, Z) noiseless images, from 0 to about 2, of displaced tissues and a tumor's parts, both (X, Y, Z).

    `contrast` holds the tumor's ranges. With `wild`, the means of healthy tissue stray far beyond realistic ones.
    """
    shape = tuple(tissues.shape)
    means = torch.from_numpy(_means(draw, contrast, wild)).to(tissues.device)  # (4, classes)
    classes = torch.where(labels > 0, N_TISSUES + labels.long(), tissues.long())
    images = means[:, classes]  # (4, X, Y, Z)
    tumor = torch.where(_is_any(labels, WATERY), 0.2, (labels > 0).float())
    images = images + _texture(draw, shape, tumor)
    images = _blend_edema(draw, images, means, tissues, labels)
    images = blur(images, draw.uniform(0.45, 0.85))  # partial volume
    images[T1C] += _vessels(draw, tissues, labels)
    if draw.chance(SINUS_SHARE):
        paint_sinuses(draw, images, tissues, labels)
    _bright_normals(draw, images, tissues, labels)
    return images


def _means(draw: Draw, contrast: TumorContrast, wild: bool) -> NDArray[np.float32]:
    """(4, tissues + labels): a random mean for every class and contrast."""
    means = np.zeros((4, N_TISSUES + N_PARTS), np.float32)
    spread = 0.16 if wild else 0.06
    for tissue, values in TISSUE_MEANS.items():
        means[:, tissue] = np.array(values) + draw.rng.normal(0, spread, 4)
    means[T1C, :N_TISSUES] = 0.75 * means[T1C, :N_TISSUES] + 0.25 * means[0, :N_TISSUES]
    if draw.chance(0.25):  # fluid that FLAIR suppresses badly
        means[T2F, [Tissue.CSF, Tissue.VENTRICLE]] += draw.uniform(0.1, 0.45)
    slack = 0.12 if wild else 0.0
    for label, ranges in contrast.items():
        means[:, N_TISSUES + label] = [draw.uniform(low - slack, high + slack) for low, high in ranges]
    core, edema, rim = (N_TISSUES + label for label in (NCR, ED, ET))
    grey = max(means[T1C, Tissue.WHITE], means[T1C, Tissue.CORTEX])
    means[T1C, rim] = max(means[T1C, rim], grey + draw.uniform(0.12, 0.3))
    means[T1C, core] = min(means[T1C, core], means[T1C, rim] - 0.35)
    healthy = max(means[T2F, Tissue.WHITE], means[T2F, Tissue.CORTEX])
    means[T2F, edema] = max(means[T2F, edema], healthy + draw.uniform(0.12, 0.35))
    means[T2W, edema] = max(means[T2W, edema], means[T2W, Tissue.WHITE] + draw.uniform(0.15, 0.35))
    return means


def _texture(draw: Draw, shape: tuple[int, ...], tumor: Tensor) -> Tensor:
    """(4, X, Y, Z): texture to add. It is stronger in the tumor, and the contrasts share a part of it."""
    fine = smooth_noise(draw, shape, 3, 4) * draw.uniform(0.02, 0.05)
    shared = smooth_noise(draw, shape, draw.uniform(4, 9))[0]
    broad = smooth_noise(draw, shape, draw.uniform(8, 20), 4)
    strength = torch.from_numpy(draw.rng.uniform(-0.15, 0.15, (4, 1, 1, 1)).astype(np.float32)).to(tumor.device)
    uneven = torch.from_numpy(draw.rng.uniform(0.05, 0.22, (4, 1, 1, 1)).astype(np.float32)).to(tumor.device)
    return fine + (0.25 + tumor) * (shared * strength) + tumor * broad * uneven + 0.03 * broad


def _is_any(labels: Tensor, parts: tuple[int, ...]) -> Tensor:
    """(X, Y, Z) bool: the voxels of these parts."""
    return torch.isin(labels, torch.tensor(parts, dtype=labels.dtype, device=labels.device))


def _blend_edema(draw: Draw, images: Tensor, means: Tensor, tissues: Tensor, labels: Tensor) -> Tensor:
    """(4, X, Y, Z): edema mixed with its tissue: it is water in tissue, which shows through towards the edge."""
    edema = _is_any(labels, EDEMATOUS).float()
    density = blur((labels > 0).float()[None], draw.uniform(1.5, 3.5))[0]  # 1/2 at a flat edge, 1 inside
    uneven = 0.25 * smooth_noise(draw, tuple(labels.shape), 10)[0]
    share = ((density - 0.5) * draw.uniform(1.5, 3.5) + draw.uniform(0.35, 0.7) + uneven).clamp(0.25, 1.15)
    healthy = means[:, tissues.long()]
    return images + edema * (share - 1) * (images - healthy)


def _vessels(draw: Draw, tissues: Tensor, labels: Tensor) -> Tensor:
    """(X, Y, Z): what contrast agent adds to t1c outside of tumors: dura, sulcal vessels, choroid plexus."""
    shape = tuple(tissues.shape)
    inside = (tissues > 0).float()
    edge = (tissues > 0) & (blur(inside[None], 2.0)[0] < draw.uniform(0.6, 0.8))
    dura = edge & (smooth_noise(draw, shape, 15)[0] > draw.uniform(-0.5, 1.5))
    ridges = smooth_noise(draw, shape, 7, 2)
    tubes = (ridges[0].abs() < 0.16) & (ridges[1].abs() < 0.16)  # lines, where two surfaces cross
    tubes &= (tissues == Tissue.CSF) | (blur((tissues == Tissue.CSF).float()[None], 1.0)[0] > 0.3)
    plexus = (tissues == Tissue.VENTRICLE) & (smooth_noise(draw, shape, 6)[0] > draw.uniform(1.3, 2.2))
    added = dura * draw.uniform(0.2, 1.0) + tubes * draw.uniform(0.4, 1.6) + plexus * draw.uniform(0.5, 1.4)
    return blur((added * (labels == 0))[None], 0.7)[0]


def _bright_normals(draw: Draw, images: Tensor, tissues: Tensor, labels: Tensor) -> None:
    """Adds, in place, what is bright in FLAIR without a tumor: caps at ventricles, spots, pulsation in cisterns."""
    shape = tuple(tissues.shape)
    healthy = labels == 0
    near = blur((tissues == Tissue.VENTRICLE).float()[None], 2.5)[0]
    white = (tissues == Tissue.WHITE) & healthy
    if draw.chance(0.7):
        caps = (near * white).clamp(max=0.4) * draw.uniform(0.3, 1.5)
        images[T2F] += caps
        images[T2W] += 0.5 * caps
    if draw.chance(0.35):  # white matter hyperintensities, small
        spots = (smooth_noise(draw, shape, 6)[0] > draw.uniform(2.2, 2.8)) & white
        added = blur(spots.float()[None], 0.8)[0] * draw.uniform(0.2, 0.6)
        images[T2F] += added
        images[T2W] += 0.6 * added
    if draw.chance(0.4):
        flow = (smooth_noise(draw, shape, 12)[0] > draw.uniform(0.8, 2.0)) & (tissues == Tissue.CSF)
        images[T2F] += blur(flow.float()[None], 1.0)[0] * draw.uniform(0.3, 1.1)
