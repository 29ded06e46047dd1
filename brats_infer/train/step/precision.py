"""The parts of a network that train in float32 while the others train in bf16."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from model.unet import ConvBlock, ResidualLevel, UNet

SMALL = 2


def keep_small_exact(network: UNet) -> None:
    """Makes blocks with an output of 2 voxels a side or less compute in float32 on the CPU.

    For these sizes the bf16 gradient of a 3x3x3 convolution's weights in torch 2.13 reads uninitialised memory.
    """
    for block in network.modules():
        if isinstance(block, ConvBlock | ResidualLevel):
            block.forward = partial(_forward, block, block.forward)  # type: ignore[method-assign]


def _forward(block: ConvBlock | ResidualLevel, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.device.type != "cpu" or max(x.shape[2:]) > SMALL * max(block.stride):
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float())
