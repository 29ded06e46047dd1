"""Whole heads: the tissues around the brain, as t1c shows them before radiotherapy; half of the faces are blanked."""

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_infer.phantom.anatomy import MNI152, Tissue, brain_in, load_anatomies, mni152_anatomy
from brats_infer.phantom.fields import Draw, blur, dilated, grid_of, smooth_noise
from brats_infer.phantom.settings import T1C, T1N, T2F, T2W

BELOW = 45  # voxels of the neck and face that the images show below the brain
AROUND = 16  # voxels of a shell around a brain whose map tells no head
DEFACED_SHARE = 0.5  # of the cases
FIRST = max(Tissue) + 1


class HeadTissue(IntEnum):
    """The tissue of a voxel outside of the brain; the numbers follow those of `Tissue`."""

    SCALP = FIRST
    """Skin, and mostly fat."""
    MUSCLE = FIRST + 1
    BONE = FIRST + 2
    MARROW = FIRST + 3
    EYE = FIRST + 4
    MUCOSA = FIRST + 5
    VESSEL = FIRST + 6
    CORD = FIRST + 7


CODES: Mapping[HeadTissue, tuple[int, ...]] = {
    HeadTissue.SCALP: (511,),
    HeadTissue.MUSCLE: (507,),
    HeadTissue.BONE: (515,),
    HeadTissue.MARROW: (516,),
    HeadTissue.EYE: (506,),
    HeadTissue.MUCOSA: (508, 509, 530),
    HeadTissue.VESSEL: (502, 514),
    HeadTissue.CORD: (512, 24),  # with the fluid around it
}
"""SynthSeg's codes outside of the brain."""
MEANS: Mapping[HeadTissue, tuple[float, float, float, float]] = {
    HeadTissue.SCALP: (1.45, 1.50, 0.80, 0.80),
    HeadTissue.MUSCLE: (0.40, 0.55, 0.10, 0.30),
    HeadTissue.BONE: (-0.28, -0.26, -0.30, -0.30),
    HeadTissue.MARROW: (0.90, 1.00, 0.30, 0.30),
    HeadTissue.EYE: (-0.05, -0.02, 1.40, 0.0),
    HeadTissue.MUCOSA: (0.50, 1.35, 1.00, 0.90),
    HeadTissue.VESSEL: (0.20, 1.80, -0.20, -0.20),
    HeadTissue.CORD: (0.45, 0.48, 0.80, 0.30),
}
"""In t1n, t1c, t2w and t2f, in the unit of `contrast.py`."""
SHELL = ((2.5, HeadTissue.BONE), (4.5, HeadTissue.MARROW), (6.5, HeadTissue.BONE), (13, HeadTissue.SCALP))
"""The outer limit of each layer in mm from the brain, where a label map tells no head."""
DURA = {T1N: 0.5, T1C: 1.1, T2W: 0.3, T2F: 0.5}
AIR = -0.4  # the darkest that a scanner shows


def heads_named(name: str) -> list[Tensor]:
    """(X, Y, Z) uint8 `Tissue` and `HeadTissue` maps: `mni152`, or those of a folder. Raises UsageError."""
    if name == MNI152:
        return [torch.from_numpy(_in_shell(mni152_anatomy().numpy()))]
    return load_anatomies(Path(name), head_of)


def head_of(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(X, Y, Z) codes -> the head, cropped a little below the brain; a shell stands for a head without codes."""
    placed = brain_in(codes)
    if placed is None:
        return np.zeros((1, 1, 1), np.uint8)
    brain, box = placed
    lookup = np.zeros(1 + max(600, int(codes.max())), np.uint8)
    for tissue, members in CODES.items():
        lookup[list(members)] = tissue
    if codes.max() < min(CODES[HeadTissue.EYE]):
        return _in_shell(brain)
    reach = [(max(0, -side.start), max(0, side.stop - n)) for side, n in zip(box, codes.shape, strict=True)]
    head = np.pad(lookup[np.maximum(codes, 0)], reach)
    inner = tuple(slice(s.start + r[0], s.stop + r[0]) for s, r in zip(box, reach, strict=True))
    head[inner] = np.where(brain > 0, brain, head[inner])
    head = head[:, :, max(0, inner[2].start - BELOW) :]
    return np.asarray(head[ndimage.find_objects((head > 0).astype(np.uint8))[0]])


def _in_shell(brain: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(X, Y, Z): a brain in a shell of bone with marrow, and scalp."""
    padded = np.pad(brain, AROUND)
    away = ndimage.distance_transform_edt(padded == 0)
    for reach, tissue in SHELL:
        padded[(padded == 0) & (away < reach)] = tissue
    return padded


def visible(draw: Draw, head: Tensor) -> Tensor:
    """(X, Y, Z): the head as it is sent: half of the time with a blanked face."""
    if not draw.chance(DEFACED_SHARE):
        return head
    brain = (head > 0) & (head < FIRST)
    _, y, z = grid_of(tuple(head.shape), head.device)
    front, back = (float(f(y[brain])) for f in (torch.amin, torch.amax))
    bottom, top = (float(f(z[brain])) for f in (torch.amin, torch.amax))
    brow = bottom + draw.uniform(0.3, 0.5) * (top - bottom)
    ear = front + draw.uniform(0.3, 0.45) * (back - front)
    rise = (z - bottom) / max(1.0, brow - bottom)  # 0 at the skull base, 1 at the brow
    face = (y < ear + (front - ear) * rise) & (z < brow) & ~dilated(brain, 4)
    return torch.where(face, 0, head)


def paint_head(draw: Draw, images: Tensor, head: Tensor, channels: tuple[int, ...]) -> Tensor:
    """(C, X, Y, Z): a brain's images of those channels, with the head around it and air around the head."""
    shape = tuple(head.shape)
    means = torch.full((len(channels), max(HeadTissue) + 1), AIR)
    for tissue, values in MEANS.items():
        means[:, tissue] = torch.from_numpy(np.array(values)[list(channels)] + draw.rng.normal(0, 0.08, len(channels)))
    means[:, int(HeadTissue.BONE)].clamp_(max=-0.15)
    outside = ~((head > 0) & (head < FIRST))
    means = means.to(images.device)
    around = means[:, head.long()]
    fat = _fat(draw, head) * (head == HeadTissue.MUSCLE)
    around += fat * (means[:, int(HeadTissue.SCALP), None, None, None] - around)
    around += (head >= FIRST) * 0.08 * smooth_noise(draw, shape, 4, len(channels))
    dura = outside & dilated(~outside, 1) & (head > 0) & (smooth_noise(draw, shape, 12)[0] > 0.2)
    for number, channel in enumerate(channels):
        around[number][dura] = DURA[channel]
    return torch.where(outside, blur(around, draw.uniform(0.4, 0.8)), images)


def _fat(draw: Draw, head: Tensor) -> Tensor:
    """(X, Y, Z) 0..1: the share of fat, below the skin and in streaks between muscles."""
    shape = tuple(head.shape)
    below_skin = dilated(head == HeadTissue.SCALP, int(draw.rng.integers(2, 6)))
    layers = (smooth_noise(draw, shape, 16)[0].abs() < draw.uniform(0.08, 0.2)).float()
    return torch.where(below_skin, 1.0, draw.uniform(0.2, 0.6) * layers)
