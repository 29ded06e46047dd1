"""What this installation is: version, device, members."""

import platform
from pathlib import Path
from typing import Any

import torch

from brats_infer import __version__
from brats_infer.ensemble import SHIPPED_WEIGHTS
from brats_infer.errors import WeightsError
from model.checkpoint import CheckpointError, read_manifest, read_verified


def describe(weights: Path | None = None) -> dict[str, Any]:
    """Version, device and every member, its file compared with the manifest. Raises WeightsError."""
    folder = weights or SHIPPED_WEIGHTS
    try:
        members = read_manifest(folder)
        for member in members:
            read_verified(folder / member.file, member.sha256)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "version": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "devices": cuda or ["cpu"],
        "threads": torch.get_num_threads(),
        "weights": str(folder),
        "members": [member.to_json() for member in members],
    }


def render(facts: dict[str, Any]) -> str:
    """The same as lines of text."""
    lines = [f"brats-opt {facts['version']}, Python {facts['python']}, torch {facts['torch']}"]
    lines += [f"devices: {', '.join(facts['devices'])} ({facts['threads']} threads)", f"weights: {facts['weights']}"]
    for member in facts["members"]:
        channels = ",".join(str(c) for c in member["config"]["channels"])
        lines.append(
            f"  {member['task']} fold {member['fold']}: {member['file']} ({channels}), {member['normalisation']}"
        )
        lines.append(f"    sha256 {member['sha256']}")
        lines.append(f"    trained on {member['trained_on']}")
    return "\n".join(lines)
