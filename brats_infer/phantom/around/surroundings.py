"""The surroundings of the brain: venous sinuses, and remains of the head after poor skull stripping."""

import torch
from torch import Tensor

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw, blur, dilated, grid_of, smooth_noise
from brats_infer.phantom.settings import T1C, T1N, T2F, T2W

REMAINS_SHARE = 0.35  # of the cases
CEREBELLUM = (Tissue.CEREBELLAR_CORTEX, Tissue.CEREBELLAR_WHITE)


def remains(draw: Draw, tissues: Tensor) -> Tensor:
    """(X, Y, Z) bool: remains of dura, bone and soft tissue, up to 8 voxels from the brain; often none.

    They lie mostly below the brain, as at the skull base, and sometimes in patches all around it.
    """
    out = torch.zeros_like(tissues, dtype=torch.bool)
    if not draw.chance(REMAINS_SHARE):
        return out
    shape = tuple(tissues.shape)
    brain = tissues > 0
    if draw.chance(0.7):
        at_stem = dilated(tissues == Tissue.BRAINSTEM, 12)
        bottom = int(brain.any(dim=0).any(dim=0).nonzero()[0])
        low = grid_of(shape, tissues.device)[2] < bottom + draw.uniform(0.1, 0.35) * shape[2]
        where = (low | at_stem) & (smooth_noise(draw, shape, draw.uniform(12, 35))[0] > draw.uniform(-1.0, 0.5))
        out = out | (dilated(brain, int(draw.rng.integers(3, 9))) & where)
    if draw.chance(0.5):
        where = smooth_noise(draw, shape, draw.uniform(15, 50))[0] > draw.uniform(-0.3, 1.2)
        out = out | (dilated(brain, int(draw.rng.integers(1, 5))) & where)
    return out & ~brain


def paint_remains(draw: Draw, images: Tensor, where: Tensor) -> Tensor:
    """(4, X, Y, Z) with four random materials in `where`, bright or dark as marrow, fat, muscle and air."""
    if not bool(where.any()):
        return images
    shape = tuple(where.shape)
    patches = smooth_noise(draw, shape, draw.uniform(4, 10), 2)
    coarse = torch.where(patches[0] > 0, 1, 0) + torch.where(patches[1] > 0.6, 2, 0)  # four kinds of tissue
    means = torch.from_numpy(draw.rng.uniform(-0.1, 1.5, (4, 4))).float().to(where.device)
    means[T1C] = torch.maximum(means[T1C], means[T1N] - 0.1)  # contrast agent only brightens
    filled = means[:, coarse] + 0.15 * smooth_noise(draw, shape, 3, 4)
    return torch.where(where, blur(filled, draw.uniform(0.5, 1.0)), images)


def paint_sinuses(draw: Draw, images: Tensor, tissues: Tensor, labels: Tensor) -> None:
    """Paints venous sinuses and large arteries in place: bright in t1c, mostly dark in t2w and t2f."""
    shape = tuple(tissues.shape)
    brain = tissues > 0
    x, _, z = grid_of(shape, tissues.device)
    rim = brain & dilated(~brain, int(draw.rng.integers(3, 7)))
    cerebellum = torch.isin(tissues, torch.tensor(CEREBELLUM, device=tissues.device))
    sagittal = rim & ((x - x[brain].median()).abs() < draw.uniform(2, 5)) & (z > z[brain].median())
    transverse = rim & dilated(cerebellum, 4) & dilated(tissues == Tissue.CORTEX, 4)
    ridges = smooth_noise(draw, shape, 9, 2).abs()
    tubes = (ridges < draw.uniform(0.15, 0.3)).all(dim=0)  # lines, where two surfaces cross
    basal = (tissues == Tissue.CSF) & dilated(tissues == Tissue.BRAINSTEM, 14) & tubes
    blood = (sagittal | transverse | basal) & ~cerebellum & (labels == 0) & (tissues != Tissue.WHITE)
    share = blur(blood.float()[None], 0.7)[0]
    for modality, low, high in ((T1C, 0.9, 2.2), (T1N, 0.1, 0.7), (T2W, -0.1, 0.6), (T2F, -0.1, 0.9)):
        images[modality] += share * (draw.uniform(low, high) - images[modality])
