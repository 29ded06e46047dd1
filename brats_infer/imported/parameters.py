"""Parameters of other programs' networks, under the names and in the order of ours; the check is complete."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from brats_infer.imported.unfit import UnfitError
from model.config import Sides, UNetConfig
from model.unet import UNet

WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
_PARTS = r"(weight|bias)"
NNUNET: tuple[tuple[str, Callable[[re.Match[str], int], str]], ...] = (
    (rf"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(conv|norm)\.{_PARTS}", lambda m, _: _layer("down", 1, m)),
    (rf"encoder\.stem\.convs\.0\.(conv|norm)\.{_PARTS}", lambda m, _: f"stem.{m[1]}1.{m[2]}"),
    (
        rf"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv(\d)\.(conv|norm)\.{_PARTS}",
        lambda m, _: f"down.{int(m[1]) + 1}.blocks.{m[2]}.{m[4]}{m[3]}.{m[5]}",
    ),
    (
        rf"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.\d\.(conv|norm)\.{_PARTS}",
        lambda m, _: f"down.{int(m[1]) + 1}.blocks.{m[2]}.project{'_norm' * (m[3] == 'norm')}.{m[4]}",
    ),
    (rf"decoder\.transpconvs\.(\d+)\.{_PARTS}", lambda m, levels: f"up.{levels - 1 - int(m[1])}.up.{m[2]}"),
    (
        rf"decoder\.stages\.(\d+)\.convs\.(\d+)\.(conv|norm)\.{_PARTS}",
        lambda m, levels: f"up.{levels - 1 - int(m[1])}.block.{m[3]}{int(m[2]) + 1}.{m[4]}",
    ),
    (rf"decoder\.seg_layers\.(\d+)\.{_PARTS}", lambda m, levels: f"heads.{levels - 1 - int(m[1])}.{m[2]}"),
)
"""Names of nnU-Net's parameters, and ours for them in a network of so many levels."""


@dataclass(frozen=True)
class Turn:
    """How parameters of a source are brought into our order."""

    axes: Sides = (0, 1, 2)
    """The source's axis of each of ours."""
    channels: tuple[int, ...] = (0, 1, 2, 3)
    """The source's input channel of each of ours."""
    outputs: tuple[int, ...] = (0, 1, 2)
    """The source's output of each of ours."""


def nnunet_name(name: str, levels: int) -> str | None:
    """Our name of a parameter of nnU-Net's networks, or None."""
    for pattern, ours in NNUNET:
        if found := re.fullmatch(pattern, name):
            return ours(found, levels)
    return None


def nnunet_state(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Each parameter of nnU-Net's state dict once. Raises UnfitError where two names of one parameter differ.

    A layer is there as `conv` and in `all_modules`, and the decoder holds the encoder again.
    """
    state: dict[str, Tensor] = {}
    again: dict[str, Tensor] = {}
    for given, tensor in weights.items():
        name = WRAPPERS.sub("", given)
        if not isinstance(tensor, Tensor):
            raise UnfitError(f"{given} is no tensor")
        plain = name.replace("decoder.encoder.", "encoder.", 1)
        (again if "all_modules" in name or plain != name else state)[name] = tensor
    for name, tensor in again.items():
        plain = name.replace("decoder.encoder.", "encoder.", 1)
        head, _, rest = plain.partition(".all_modules.")
        names = [f"{head}.{kind}.{rest.rpartition('.')[2]}" for kind in ("conv", "norm")] if rest else [plain]
        if not any(twin in state and _equal(state[twin], tensor) for twin in names):
            raise UnfitError(f"{name} is not the same as {' or '.join(names)}")
    return state


def own_state(
    state: Mapping[str, Tensor], config: UNetConfig, turn: Turn, named: Callable[[str], str | None]
) -> dict[str, Tensor]:
    """{our name: float32 parameter in our order}. Raises UnfitError.

    `config` is that of our network, and `named` gives our name of a source's parameter.
    """
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in UNet(config).state_dict().items()}
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        own = named(name)
        if own is None or own not in wanted:
            raise UnfitError(f"{name} has no place in the network")
        if tensor.ndim != len(wanted[own]) or tensor.layout != torch.strided or not tensor.is_floating_point():
            raise UnfitError(f"{name} has the shape {tuple(tensor.shape)}, the network {tuple(wanted[own])}")
        turned = _turned(own, tensor.float(), config, turn)
        if turned.shape != wanted[own]:
            raise UnfitError(
                f"{name} has the shape {tuple(tensor.shape)}, the network {tuple(wanted[own])} along x, y, z"
            )
        if not bool(turned.isfinite().all()):
            raise UnfitError(f"{name} holds NaN or Inf")
        found[own] = turned.contiguous()
    if missing := sorted(set(wanted) - set(found)):
        raise UnfitError(f"lacks the parameter {missing[0]} of the network")
    return {name: found[name] for name in wanted}


def _turned(own: str, tensor: Tensor, config: UNetConfig, turn: Turn) -> Tensor:
    """A parameter along our axes, with channels and outputs in our order."""
    if tensor.ndim == 5:
        tensor = tensor.permute(0, 1, *(2 + axis for axis in turn.axes))
    first = "stem.conv1.weight" if config.residual else "down.1.conv1.weight"
    if own == first and tensor.shape[1] >= len(turn.channels):
        rest = range(len(turn.channels), tensor.shape[1])  # the brain mask
        tensor = tensor[:, [*turn.channels, *rest]]
    if own.startswith("heads.") and len(tensor) == len(turn.outputs):
        tensor = tensor[list(turn.outputs)]
    return tensor


def _layer(part: str, first: int, found: re.Match[str]) -> str:
    return f"{part}.{int(found[1]) + first}.{found[3]}{int(found[2]) + 1}.{found[4]}"


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))


def missing_heads(state: Mapping[str, Tensor], levels: int) -> Sequence[int]:
    """Levels without a head in nnU-Net's parameters; older versions keep only the first head."""
    heads = {levels - 1 - int(found[1]) for name in state if (found := re.match(r"decoder\.seg_layers\.(\d+)\.", name))}
    return [level for level in range(1, levels) if level not in heads]
