"""Members on disk: float16 safetensors, and a manifest that describes each member.

safetensors hold only numbers; a pickle could run code. A flipped bit loads without an error, so every file is first
compared with its sha256 in the manifest.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from model.atomic import write_atomically
from model.config import Member
from model.unet import UNet

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
REFERENCE = "reference"


class CheckpointError(Exception):
    """A weights folder is not usable; the message names the file and says what to do."""


def read_manifest(folder: Path) -> list[Member]:
    """Every member that a weights folder lists. Raises CheckpointError."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != MANIFEST_VERSION:
            raise ValueError(f"version {content['version']} is not {MANIFEST_VERSION}")
        return [Member.from_json(values) for values in content["members"]]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): give the folder of the weights") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is not a manifest of this version ({error}): take the one that came with the weights"
        ) from error


def write_manifest(folder: Path, members: Iterable[Member]) -> None:
    """Writes the manifest, whole or not at all."""
    content = {"version": MANIFEST_VERSION, "members": [member.to_json() for member in members]}
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=2) + "\n").encode())


def read_verified(path: Path, sha256: str) -> bytes:
    """A file's content, compared with the manifest's hash. Raises CheckpointError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): take the weights again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(
            f"{path}: is not the file of the manifest (sha256 differs): damaged or replaced, take the weights again"
        )
    return content


def load_member(folder: Path, member: Member) -> UNet:
    """The verified network on the CPU, float32, ready for inference. Raises CheckpointError."""
    path = folder / member.file
    content = read_verified(path, member.sha256)
    try:
        with torch.device("meta"):  # the file holds every parameter: allocate and initialise none
            network = UNet(member.config)
        state = load_safetensors(content)
        if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
            raise ValueError("holds NaN or Inf")
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True, assign=True)
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: does not fit the network of the manifest ({reason}): take the weights again"
        ) from error
    return network.eval()


def load_reference(folder: Path, member: Member) -> NDArray[np.float32]:
    """The verified reference of a member's histogram matching: (modalities, N) ascending. Raises CheckpointError."""
    path = folder / member.histogram_file
    try:
        reference = load_arrays(read_verified(path, member.histogram_sha256))[REFERENCE]
        if reference.ndim != 2 or len(reference) != member.config.modalities or not (np.diff(reference) >= 0).all():
            raise ValueError(f"of shape {reference.shape}, or not ascending")
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: is no histogram reference ({error}): take the weights again") from error
    return reference.astype(np.float32)


def save_reference(path: Path, reference: NDArray[np.float32]) -> str:
    """Writes a reference (modalities, N) of histogram matching; returns the file's sha256."""
    content = save_arrays({REFERENCE: reference})
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def save_weights(path: Path, network: UNet) -> str:
    """Writes the parameters as float16 safetensors, whole or not at all; returns the file's sha256."""
    state = {
        name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in network.state_dict().items()
    }
    content = save_safetensors(state)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()
