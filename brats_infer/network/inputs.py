"""What the members of an ensemble see of a case: made on the host, or by the GPU that they compute on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.image.crop import Cropped
from brats_infer.image.normalise import Normalisation, normalise, zscores
from brats_infer.network.devices import CPU, pinned_memory
from model.checkpoint import Member


class Key(NamedTuple):
    """What tells one member's input from another's."""

    normalisation: str
    foreground: bool
    histogram_sha256: str


@dataclass(frozen=True)
class Prepared:
    """A case as its members want it."""

    brain: NDArray[np.bool_]
    """(X, Y, Z)"""
    inputs: dict[Key, Tensor]
    """(C, X, Y, Z) float32 of each kind that there is among the members, on the host."""
    raw: Tensor | None = None
    """(4, X, Y, Z) in their place, where the device makes them: whole numbers."""


def key_of(member: Member) -> Key:
    """Which input a member sees."""
    return Key(member.normalisation, member.config.foreground, member.histogram_sha256)


def prepare(
    cropped: Cropped, members: Sequence[Member], references: Mapping[str, NDArray[np.float32]], device: torch.device
) -> Prepared:
    """Normalises a case in each way that the members ask for, or leaves that to a GPU."""
    brain = cropped.brain
    if device != CPU and (raw := _raw(cropped, members, device)) is not None:
        return Prepared(brain, {}, raw)
    inputs: dict[Key, Tensor] = {}
    for member in members:
        if (key := key_of(member)) not in inputs:
            reference, foreground = references.get(member.file), member.config.foreground
            x = _memory((len(cropped.views) + foreground, *brain.shape), torch.float32, device)
            channels, variant = x.numpy(), Normalisation(member.normalisation)
            network_input(cropped.copied(channels[:4]), brain, variant, reference, foreground, out=channels)
            inputs[key] = x
    return Prepared(brain, inputs)


def inputs_on(device: torch.device, prepared: Prepared, members: Sequence[Member]) -> dict[Key, Tensor]:
    """(C, X, Y, Z) float32 of each kind, on a device.

    Copies are waited for: else CUDA would be asked again when the pinned memory is freed, and where the GPU has failed
    meanwhile that ends the process.
    """
    if prepared.raw is None:
        return {key: x.to(device) for key, x in prepared.inputs.items()}
    with_brain = zscores(prepared.raw.to(device))
    keys = {key_of(member) for member in members}
    return {key: with_brain if key.foreground else with_brain[:-1] for key in keys}


def network_input(
    images: NDArray[np.float32],
    brain: NDArray[np.bool_],
    normalisation: Normalisation,
    reference: NDArray[np.float32] | None,
    foreground: bool,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(4, X, Y, Z) raw -> the network's channels: normalised, and the brain mask as a fifth where it wants one.

    Written into `out` where it is given, else into a new array.
    """
    channels = np.empty((len(images) + foreground, *brain.shape), np.float32) if out is None else out
    normalise(images, normalisation, reference, out=channels[: len(images)])
    if foreground:
        channels[-1] = brain
    return channels


def _raw(cropped: Cropped, members: Sequence[Member], device: torch.device) -> Tensor | None:
    """(4, X, Y, Z) in the order of files, where all members want z-scores of whole numbers of 16 bits at most."""
    types = [view.dtype for view in cropped.views]
    whole = all(one.kind in "iu" and one.itemsize <= 2 for one in types)
    if not whole or any(member.normalisation != Normalisation.ZSCORE for member in members):
        return None
    x, y, z = cropped.brain.shape
    wide = np.result_type(np.int16, *types) != np.int16
    raw = _memory((len(types), z, y, x), torch.int32 if wide else torch.int16, device).permute(0, 3, 2, 1)
    for target, view in zip(raw.numpy(), cropped.views, strict=True):
        target[:] = view
    return raw


def _memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """From where the device copies it fast; else as numpy allocates it, in large pages."""
    memory = pinned_memory(shape, dtype) if device.type == "cuda" else None
    return torch.from_numpy(np.empty(shape, str(dtype).removeprefix("torch."))) if memory is None else memory
