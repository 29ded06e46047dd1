"""What training in bf16 leaves in float32."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from model.unet import ConvBlock, UNet

SMALL = 2


def keep_small_exact(network: UNet) -> None:
    """Has blocks whose output is 2 voxels a side or less compute in float32 on the CPU.

    There, torch 2.13's gradient in bf16 of the weights of a 3x3x3 convolution depends on memory that nobody wrote to.
    """
    for block in network.modules():
        if isinstance(block, ConvBlock):
            block.forward = partial(_forward, block, block.forward)  # type: ignore[method-assign]


def _forward(block: ConvBlock, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.device.type != "cpu" or max(x.shape[2:]) > SMALL * block.conv1.stride[0]:
        return forward(x)
    with torch.autocast("cpu", enabled=False):
        return forward(x.float())
