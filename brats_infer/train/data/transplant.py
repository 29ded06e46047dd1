"""The tumor of one patch in the brain of another, after CarveMix (Zhang et al. 2021, arXiv 2108.06883).

CarveMix carves a tumor with a margin of its surroundings and replaces the other brain's voxels. Here the edge of the
graft is smooth, and the graft may be faint: real tumors differ little from the brain in some cases.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

MARGIN = (0, 3)
"""Voxels around the tumor that are grafted with it: from, to, both included."""
FAINT_SHARE = 0.5
"""Probability that a graft is faint: each contrast has a strength of its own, its share of the mixed intensities."""
LEAST_STRENGTH = (0.0, 0.5, 0.0, 0.5)
"""Of a faint graft in T1, T1c, T2 and FLAIR; the greatest is 1. Real tumors may show in FLAIR and not in T2 or T1."""
FEW_CONTRASTS = 0.5
"""The same for a challenge without all four contrasts."""


def transplant(
    image: Tensor, regions: Tensor, graft: Tensor, graft_regions: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """(C + 1, X, Y, Z) and (R, X, Y, Z): the host's patch with the tumor of the graft's patch, where both have brain.

    Images are the modalities and the brain mask, targets 0 or 1. The graft's tumor replaces a tumor of the host. The
    host's brain mask stays.
    """
    margin = int(rng.integers(MARGIN[0], MARGIN[1] + 1))
    faint = rng.random() < FAINT_SHARE
    least = LEAST_STRENGTH if len(image) == len(LEAST_STRENGTH) + 1 else (FEW_CONTRASTS,) * (len(image) - 1)
    strengths = [rng.uniform(low, 1.0) if faint else 1.0 for low in least]
    brain = image[-1:] * graft[-1:] > 0  # (1, X, Y, Z)
    tumor = (graft_regions.amax(0, keepdim=True) > 0) & brain
    share = image.new_tensor(strengths)[:, None, None, None] * _smooth(tumor.to(image.dtype), margin) * brain
    mixed = torch.lerp(image[:-1], graft[:-1], share)
    return torch.cat((mixed, image[-1:])), torch.where(tumor, graft_regions, regions)


def _smooth(mask: Tensor, margin: int) -> Tensor:
    """(1, X, Y, Z): the mask grown by `margin` voxels, with a smooth edge two voxels wide beyond."""
    grown = functional.max_pool3d(mask[None], 2 * margin + 3, stride=1, padding=margin + 1)
    return functional.avg_pool3d(grown, 3, stride=1, padding=1, count_include_pad=False)[0]
