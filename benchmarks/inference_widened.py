"""A wide network that computes what a narrow one does, so that it can be timed on the answers of a trained one.

Random weights see tumors in thousands of pieces, which take longer to clean than any real answer.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.unet import UNet

SAMPLES = 4096


@torch.no_grad()
def widened(narrow: UNet, channels: Sequence[int]) -> UNet:
    """A network of so many channels, the narrow one in its first ones; these read no others, whose weights are random.

    Its answers are the narrow one's where it is as deep, and nearly so where it is deeper: there the way up begins with
    what the way down brought to the narrow one's lowest level. Raises ValueError where the narrow one does not fit in.
    """
    depth, own = narrow.config.levels, narrow.config.channels
    if len(channels) < depth or any(there < c for there, c in zip(channels, own, strict=False)):
        raise ValueError(f"a network of {own} channels does not fit into one of {tuple(channels)}")
    wide = UNet(replace(narrow.config, channels=tuple(channels)))
    weights = wide.state_dict()
    for name, weight in narrow.state_dict().items():
        if weight.ndim == 1:
            weights[name][: len(weight)] = weight
        elif name.endswith("up.weight"):  # of a transposed convolution: (inputs, outputs, ...)
            _put(weight.transpose(0, 1), weights[name].transpose(0, 1), parts=1)
        else:
            _put(weight, weights[name], parts=2 if _is_joined(name) else 1)
    if len(channels) > depth:
        _repeat_bottom(weights, depth, narrow.down[str(depth)].norm2, skip=channels[depth - 1])
    return wide.eval()


def _is_joined(name: str) -> bool:
    """Whether a convolution reads what comes from below and, behind it, the skip."""
    return name.startswith("up.") and name.endswith("conv1.weight")


def _put(weight: Tensor, target: Tensor, parts: int) -> None:
    """(outputs, inputs, ...) into a larger one's first outputs, which then read the first inputs of each part."""
    outputs, inputs = len(weight), weight.shape[1] // parts
    target[:outputs] = 0
    for part in range(parts):
        first = part * (target.shape[1] // parts)
        target[:outputs, first : first + inputs] = weight[:, part * inputs : (part + 1) * inputs]


def _repeat_bottom(weights: dict[str, Tensor], level: int, norm: nn.InstanceNorm3d, skip: int) -> None:
    """Lets a level's way up pass on its skip, which begins at input `skip`, as the way down brought it.

    The norms there give it the mean and the deviation that it has if what `norm` scales is normal.
    """
    kept = len(norm.weight)
    normal = torch.special.ndtri((torch.arange(SAMPLES) + 0.5) / SAMPLES)
    usual = functional.leaky_relu(norm.weight[:, None] * normal + norm.bias[:, None], 0.01)
    for number, first in ((1, skip), (2, 0)):
        block = f"up.{level}.block"
        target = weights[f"{block}.conv{number}.weight"]
        target[:kept] = 0
        target[range(kept), range(first, first + kept), 1, 1, 1] = 1
        weights[f"{block}.norm{number}.weight"][:kept] = usual.std(1)
        weights[f"{block}.norm{number}.bias"][:kept] = usual.mean(1)
