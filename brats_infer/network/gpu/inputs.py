"""Computes z-scores on the GPU: raw integers are copied there in half the time."""

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
"""The kind of raw images, (4, X, Y, Z) integers in place of the members' inputs."""


def raw_images(cropped: Cropped, members: Sequence[Member], device: torch.device) -> Tensor | None:
    """(4, X, Y, Z) in the files' order; None unless all members take z-scores and all images are short integers."""
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
    """The members' inputs on a device: (C, X, Y, Z) float32 for each kind.

    Copies are synchronous. After an asynchronous copy, CUDA is called again when pinned memory is freed; if the GPU
    has failed meanwhile, that call ends the process.
    """
    if RAW not in inputs:
        return {kind: x.to(device) for kind, x in inputs.items()}
    with_brain = zscores(inputs[RAW].to(device))
    return {kind: with_brain if kind.foreground else with_brain[:-1] for kind in map(input_kind, members)}


def zscores(images: Tensor) -> Tensor:
    """(4, X, Y, Z) raw -> float32 (5, X, Y, Z) on the same device: z-scores as in `normalise`, and the brain mask.

    float32 suffices for integers of 16 bits. The function never waits for a GPU.
    """
    out = torch.empty((len(images) + 1, *images.shape[1:]), device=images.device)
    values = out[:-1].copy_(images)
    mask = values != 0
    out[-1] = mask.any(dim=0)
    space = (1, 2, 3)
    count = mask.sum(space, keepdim=True).clamp_(min=1)
    for _ in range(2):  # the first mean is rounded, the second corrects it
        values -= values.sum(space, keepdim=True) / count
        values *= mask
    deviation = values.square().sum(space, keepdim=True).div_(count).sqrt_()
    values /= torch.where(deviation > 0, deviation, 1.0)
    return out
