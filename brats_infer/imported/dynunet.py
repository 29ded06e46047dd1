"""DynUNet of MONAI: NVIDIA's Optimized U-Net for BraTS 2021, and the code of the paper's authors."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from brats_infer.errors import WeightsError
from brats_infer.image.normalise import Normalisation
from brats_infer.imported.labels import channels_of
from brats_infer.imported.model import Found, Wanted
from brats_infer.imported.parameters import Turn, own_state
from brats_infer.imported.unfit import UnfitError
from brats_infer.imported.untrusted import read_checkpoint
from brats_infer.tasks import MODALITIES, Rule, Task
from model.config import SAME, Sides, UNetConfig
from model.source import Source

PROGRAM = "MONAI DynUNet"
FIRST = "input_block.conv1.conv.weight"
AXES = {"xyz": (0, 1, 2), "zyx": (2, 1, 0)}
_AGAIN = re.compile(r"^skip_layers\.(?:next_layer\.)*(?:downsample\.|upsample\.|super_head\.)?")
_PARTS = r"(?:conv(\d)\.conv|norm(\d))\.(weight|bias)"


def is_dynunet(content: Mapping[str, Any]) -> bool:
    """Whether a file's content is a state dict of a DynUNet, or a checkpoint with one."""
    return any(str(name).endswith(FIRST) for name in _weights(content))


def read_dynunet(path: Path, task: Task, wanted: Wanted) -> Found:
    """The network of a state dict or a Lightning checkpoint. Raises WeightsError."""
    weights = _weights(read_checkpoint(path))
    try:
        state = _once(weights)
        axes = AXES[wanted.axes]
        config = _config(state, axes)
        _check(config, task)
        names = wanted.channels or tuple(modality.name for modality in MODALITIES)
        channels = channels_of([str(i) for i in range(config.modalities)], names)
        turn = Turn(axes, channels, tuple(range(config.regions)))
        named = own_state(state, config, turn, lambda name: own_name(name, config.levels))
        if not config.fits(wanted.patch):
            raise UnfitError(f"does not take a patch of {wanted.patch}, give --patch in multiples of {config.multiple}")
    except UnfitError as error:
        raise WeightsError(f"{path}: {error}: only a DynUNet with convolutions as NVIDIA's can be imported") from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    source = Source(PROGRAM, path.name, "0", sha256, sha256, str(Rule.INWARDS))
    return Found(config, named, str(Normalisation.ZSCORE), wanted.patch, source)


def own_name(name: str, levels: int) -> str | None:
    """Our name of a parameter of a DynUNet, or None."""
    if found := re.fullmatch(rf"(input_block|downsamples\.(\d+)|bottleneck)\.{_PARTS}", name):
        level = {"input_block": 1, "bottleneck": levels}.get(found[1]) or int(found[2]) + 2
        return f"down.{level}.{_layer(found[3], found[4])}.{found[5]}"
    if found := re.fullmatch(r"upsamples\.(\d+)\.transp_conv\.conv\.weight", name):
        return f"up.{levels - 1 - int(found[1])}.up.weight"
    if found := re.fullmatch(rf"upsamples\.(\d+)\.conv_block\.{_PARTS}", name):
        return f"up.{levels - 1 - int(found[1])}.block.{_layer(found[2], found[3])}.{found[4]}"
    if found := re.fullmatch(r"(?:output_block|deep_supervision_heads\.(\d+))\.conv\.conv\.(weight|bias)", name):
        return f"heads.{1 if found[1] is None else int(found[1]) + 2}.{found[2]}"
    return None


def _layer(conv: str | None, norm: str | None) -> str:
    return f"conv{conv}" if conv else f"norm{norm}"


def _weights(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict of a file's content, which Lightning keeps under `state_dict`."""
    for name in ("state_dict", "model_state_dict", "network_weights"):
        if isinstance(content.get(name), Mapping):
            return {str(key): value for key, value in content[name].items()}
    return content


def _once(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Each parameter of the network once, without what stands before its name. Raises UnfitError.

    MONAI lists the blocks again under `skip_layers`, in the order in which they run.
    """
    prefix = next(str(name) for name in weights if str(name).endswith(FIRST)).removesuffix(FIRST)
    own = {n.removeprefix(prefix): tensor for n, tensor in weights.items() if n.startswith(prefix)}
    tensors = {name: tensor for name, tensor in own.items() if isinstance(tensor, Tensor)}
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith("skip_layers.")}
    for name in set(tensors) - set(state):
        ending = f".{_AGAIN.sub('', name)}"
        twins = (twin for other, twin in state.items() if other.endswith(ending) and twin.shape == tensors[name].shape)
        if not any(torch.equal(twin, tensors[name]) for twin in twins):
            raise UnfitError(f"has {name}, which is the same as no parameter of its blocks")
    return state


def _config(state: Mapping[str, Tensor], axes: Sides) -> UNetConfig:
    """The network that the shapes tell, along our axes. Raises UnfitError."""
    downs = sum(bool(re.fullmatch(r"downsamples\.\d+\.conv1\.conv\.weight", name)) for name in state)
    blocks = ["input_block", *(f"downsamples.{i}" for i in range(downs)), "bottleneck"]
    ups = [f"upsamples.{i}" for i in reversed(range(downs + 1))]
    heads = sum(name.startswith("deep_supervision_heads.") and name.endswith(".weight") for name in state)

    def sides(name: str) -> Sides:
        x, y, z = (state[name].shape[2 + axis] for axis in axes)
        return x, y, z

    try:
        inputs = state[FIRST].shape[1]
        return UNetConfig(
            channels=tuple(state[f"{block}.conv1.conv.weight"].shape[0] for block in blocks),
            modalities=len(MODALITIES),
            regions=state["output_block.conv.conv.weight"].shape[0],
            foreground=inputs == len(MODALITIES) + 1,
            deep_supervision=heads > 0,
            supervised=heads + 1,
            kernels=tuple(sides(f"{block}.conv1.conv.weight") for block in blocks),
            strides=(SAME, *(sides(f"{up}.transp_conv.conv.weight") for up in ups)),
            decoder_kernels=tuple(sides(f"{up}.conv_block.conv1.conv.weight") for up in ups),
            logits=True,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise UnfitError(f"lacks layers of a DynUNet of three axes ({error})") from error


def _check(config: UNetConfig, task: Task) -> None:
    if config.regions != len(task.regions):
        names = ", ".join(region.name for region in task.regions)
        raise UnfitError(f"has {config.regions} outputs, the task {task.name} the regions {names}")
