"""A narrower network from a trained one: the channels with the largest weights stay (Li 2017, arXiv 1608.08710)."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor


def channels_of(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The width of each level of a U-Net with two convolutions a block; empty for other networks."""
    widths: list[int] = []
    if any(".conv3." in name for name in state):
        return ()
    while (name := f"down.{len(widths) + 1}.conv1.weight") in state:
        widths.append(state[name].shape[0])
    return tuple(widths)


def can_narrow(state: Mapping[str, Tensor], channels: Sequence[int]) -> bool:
    """Whether `narrowed` makes a network of these widths: as many levels, none of them wider."""
    widths = channels_of(state)
    return len(widths) == len(channels) and all(to <= at for to, at in zip(channels, widths, strict=True))


def narrowed(state: Mapping[str, Tensor], channels: Sequence[int]) -> dict[str, Tensor]:
    """The parameters of a network of `channels` out of those of a wider one; training has to go on after it.

    A channel's rank is the size of its norm's weight times the sum of the weights that read it.
    """
    cut, widths = dict(state), channels_of(state)
    depth = len(widths)
    skips: dict[int, Tensor] = {}
    inputs = torch.arange(state["down.1.conv1.weight"].shape[1])
    for level in range(1, depth + 1):
        readers = [f"down.{level + 1}.conv1.weight"] if level < depth else [f"up.{level - 1}.up.weight"]
        use = _use(state, readers)
        if level < depth:
            use += _inputs(state[f"up.{level}.block.conv1.weight"])[widths[level - 1] :]
        inputs = skips[level] = _narrow_block(cut, f"down.{level}", inputs, use, channels[level - 1])
    below = skips[depth]
    for level in range(depth - 1, 0, -1):
        width, block = channels[level - 1], f"up.{level}.block"
        grown = state[f"up.{level}.up.weight"]  # (C_below, C, 2, 2, 2): transposed
        use = _inputs(state[f"{block}.conv1.weight"])[: widths[level - 1]]
        kept = _largest(grown.abs().sum(dim=(0, 2, 3, 4)) * use, width)
        cut[f"up.{level}.up.weight"] = grown[below][:, kept]
        if (bias := f"up.{level}.up.bias") in cut:
            cut[bias] = cut[bias][kept]
        heads = [name for name in (f"heads.{level}.weight",) if name in state]
        readers = heads if level == 1 else [f"up.{level - 1}.up.weight", *heads]
        joined = torch.cat((kept, skips[level] + widths[level - 1]))
        below = _narrow_block(cut, block, joined, _use(state, readers), width)
        for name in heads:
            cut[name] = state[name][:, below]
    return cut


def _narrow_block(cut: dict[str, Tensor], block: str, inputs: Tensor, use: Tensor, width: int) -> Tensor:
    """Cuts both convolutions of a block with their norms in place; returns the kept outputs."""
    first = _largest(cut[f"{block}.norm1.weight"].abs() * _inputs(cut[f"{block}.conv2.weight"]), width)
    second = _largest(cut[f"{block}.norm2.weight"].abs() * use, width)
    for layer, kept, read in ((1, first, inputs), (2, second, first)):
        cut[f"{block}.conv{layer}.weight"] = cut[f"{block}.conv{layer}.weight"][kept][:, read]
        for name in (f"{block}.conv{layer}.bias", f"{block}.norm{layer}.weight", f"{block}.norm{layer}.bias"):
            if name in cut:
                cut[name] = cut[name][kept]
    return second


def _use(state: Mapping[str, Tensor], readers: Iterable[str]) -> Tensor:
    """How much layers read each of their inputs, together."""
    return torch.stack([_inputs(state[name], transposed=".up." in name[3:]) for name in readers]).sum(dim=0)


def _inputs(weight: Tensor, transposed: bool = False) -> Tensor:
    """How much a convolution reads each of its inputs."""
    return weight.abs().sum(dim=(1, 2, 3, 4) if transposed else (0, 2, 3, 4))


def _largest(rank: Tensor, count: int) -> Tensor:
    return rank.argsort(descending=True)[:count].sort().values
