"""Transfer learning: the weights that training starts with, and the layers that keep them (paper 2.7)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from brats_infer.errors import UsageError, WeightsError
from brats_infer.train.choices import Freeze
from model.checkpoint import MANIFEST, CheckpointError, read_manifest, read_verified
from model.config import Member
from model.unet import UNet, group_prefixes


@dataclass(frozen=True)
class Initial:
    """Weights to start with."""

    path: Path
    sha256: str
    state: dict[str, Tensor]
    """{parameter: float32}"""
    member: Member | None
    """What the manifest beside the file says of it."""

    def put_into(self, network: UNet) -> None:
        """Raises UsageError for a network of another configuration."""
        own = network.state_dict()
        wrong = [
            n for n in (*own, *self.state) if n not in own or n not in self.state or own[n].shape != self.state[n].shape
        ]
        if wrong:
            raise UsageError(
                f"--init {self.path}: is of another network, it differs in {wrong[0]}: give its --channels and the like"
            )
        network.load_state_dict(self.state)


def read_initial(path: Path) -> Initial:
    """Reads `FILE.safetensors`, or the only file of a weights folder; what a manifest beside it lists is verified.

    Raises UsageError for what names no single file, WeightsError for a file that is damaged.
    """
    file, members = (path, []) if path.suffix == ".safetensors" else _only_file(path)
    try:
        if not members and (file.parent / MANIFEST).exists():
            members = read_manifest(file.parent)
        member = next((member for member in members if member.file == file.name), None)
        content = read_verified(file, member.sha256) if member else file.read_bytes()
        state = {name: tensor.float() for name, tensor in load(content).items()}
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise UsageError(f"--init {file}: cannot be read ({error.strerror}): give a .safetensors file") from error
    except SafetensorError as error:
        raise WeightsError(f"{file}: is no safetensors file ({error}): take the weights again") from error
    return Initial(file, hashlib.sha256(content).hexdigest(), state, member)


def freeze(network: UNet, group: Freeze) -> None:
    """Freezes a group of layers: they get no gradient, so neither memory nor time is spent on one."""
    prefixes = group_prefixes(network.config, group.value)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))


def _only_file(folder: Path) -> tuple[Path, list[Member]]:
    try:
        members = read_manifest(folder)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    files = sorted({member.file for member in members})
    if len(files) != 1:
        raise UsageError(f"--init {folder}: holds {len(files)} files, not one: give {folder}/FILE.safetensors")
    return folder / files[0], members
