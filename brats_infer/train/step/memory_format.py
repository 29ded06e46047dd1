"""Channels-last memory of a network that trains on the CPU: about 1.6 times as fast as channels first."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional


def keep_channels_last(network: nn.Module) -> None:
    """Stores the parameters channels last, and makes instance norm keep that order for a batch of one.

    Torch's instance norm copies its input to channels first. The next convolution copies it back.
    """
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm3d):
            module.forward = partial(_normalised, module, module.forward)  # type: ignore[method-assign]


def _normalised(norm: nn.InstanceNorm3d, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, C, X, Y, Z): one image's instance norm is its batch norm, and batch norm takes either order."""
    if len(x) > 1:
        return forward(x)
    return functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
