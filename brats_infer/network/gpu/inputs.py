"""Inputs that a GPU makes itself: z-scores of whole numbers, which are copied in half the time."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from brats_infer.image.crop import Cropped
from brats_infer.image.normalise import Normalisation
from brats_infer.network.ensemble import InputKind, Inputs, input_kind
from brats_infer.network.gpu.memory import host_memory
from model.config import Member

RAW = InputKind("raw", False, "")
"""(4, X, Y, Z) whole numbers in place of the members' inputs."""


def raw_images(cropped: Cropped, members: Sequence[Member], device: torch.device) -> Tensor | None:
    """(4, X, Y, Z) in the order of files, where all members want z-scores of whole numbers of 16 bits at most."""
    types = [view.dtype for view in cropped.views]
    whole = all(one.kind in "iu" and one.itemsize <= 2 for one in types)
    if not whole or any(member.normalisation != Normalisation.ZSCORE for member in members):
        return None
    x, y, z = cropped.brain.shape
    wide = np.result_type(np.int16, *types) != np.int16
    raw = host_memory((len(types), z, y, x), torch.int32 if wide else torch.int16, device).permute(0, 3, 2, 1)
    for target, view in zip(raw.numpy(), cropped.views, strict=True):
        target[:] = view
    return raw


def inputs_on(device: torch.device, inputs: Inputs, members: Sequence[Member]) -> Inputs:
    """(C, X, Y, Z) float32 of each kind, on a device.

    Copies are waited for. Else CUDA would be asked again when the pinned memory is freed, and if the GPU has failed
    meanwhile, that ends the process.
    """
    if RAW not in inputs:
        return {kind: x.to(device) for kind, x in inputs.items()}
    with_brain = zscores(inputs[RAW].to(device))
    return {kind: with_brain if kind.foreground else with_brain[:-1] for kind in map(input_kind, members)}


def zscores(images: Tensor) -> Tensor:
    """(4, X, Y, Z) raw -> float32 (5, X, Y, Z) on the same device: z-scores as of `normalise`, and a mask of the brain.

    In float32 throughout, as whole numbers of 16 bits allow. Nothing in it waits for a GPU.
    """
    out = torch.empty((len(images) + 1, *images.shape[1:]), device=images.device)
    values = out[:-1].copy_(images)
    mask = values != 0
    out[-1] = mask.any(dim=0)
    space = (1, 2, 3)
    count = mask.sum(space, keepdim=True).clamp_(min=1)
    for _ in range(2):  # the mean of a large sum is rounded, that of what is left is exact
        values -= values.sum(space, keepdim=True) / count
        values *= mask
    deviation = values.square().sum(space, keepdim=True).div_(count).sqrt_()
    values /= torch.where(deviation > 0, deviation, 1.0)
    return out
