"""What a run is at any step, and its files: begun, saved, gone on from."""

import io
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from brats_infer.errors import OutputError, UsageError
from brats_infer.tasks import Task
from brats_infer.train.choices import Selection
from brats_infer.train.config import TrainConfig
from brats_infer.train.data.dataset import Split
from brats_infer.train.distributed import Workers, heads_of
from brats_infer.train.monitor.curves import validation_csv
from brats_infer.train.optimisers import make_optimizer
from brats_infer.train.precision import keep_small_exact
from brats_infer.train.transfer import Initial, freeze
from model.atomic import write_atomically
from model.checkpoint import save_weights
from model.unet import UNet

LAST = "last.pt"
BEST = "best.safetensors"
LOG = "log.jsonl"
TABLE = "validation.csv"
SETTINGS = "settings.json"


@dataclass
class Run:
    """Everything that changes while training."""

    network: UNet
    mean: UNet
    """Exponential moving average of the network's parameters."""
    optimizer: torch.optim.Optimizer
    workers: Workers
    heads: nn.Module
    """The network's heads; with several workers, it averages their gradients."""
    select: Selection = Selection.DICE
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """Of each step since the last validation."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """What each validation found."""

    @property
    def best(self) -> dict[str, Any]:
        """The entry of the best validation, the later of equals."""
        key = "step" if self.select == Selection.LAST else "score"
        return max(reversed(self.log), key=lambda entry: float(entry[key]), default={})


def read_best(run: Path) -> bytes:
    """The content of a run's best checkpoint. Raises OutputError where it is cut, OSError where it is missing."""
    content = (run / BEST).read_bytes()
    try:
        load(content)
    except SafetensorError as error:
        raise OutputError(f"{run / BEST}: is damaged ({error}): check the disk, then choose another --out") from error
    return content


def settings_of(config: TrainConfig, split: Split, task: Task) -> dict[str, Any]:
    """What makes a run this one: going on with other cases would train on those held out before."""
    return {
        **config.to_json(),
        "task": task.name,
        "training": [case.id for case in split.training],
        "validation": [case.id for case in split.validation],
        "phantoms": [case.id for case in split.phantoms],
    }


def start_run(
    config: TrainConfig,
    settings: dict[str, Any],
    out: Path,
    device: torch.device,
    initial: Initial | None,
    workers: Workers,
) -> Run:
    """A run at its first step, or where `out` stopped. Raises UsageError for another run's folder, OutputError."""
    torch.manual_seed(config.seed)
    network, mean = UNet(config.network), UNet(config.network)
    if initial:
        initial.put_into(network)
    mean.load_state_dict(network.state_dict())
    network, mean = network.to(device), mean.to(device)
    keep_small_exact(network)
    freeze(network, config.freeze)
    optimizer = make_optimizer(config, [p for p in network.parameters() if p.requires_grad])
    run = Run(network, mean, optimizer, workers, heads_of(network, workers), config.select)
    path = out / LAST
    if path.exists():
        try:
            _restore(run, settings, path)
        except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError, OSError) as error:
            raise UsageError(f"{path}: is damaged, or of another version: choose another --out") from error
    if len(set(workers.gather({str(workers.rank): run.step}).values())) > 1:
        raise UsageError(f"{out}: not all processes find the same {LAST} there: give them one folder that all see")
    try:
        if workers.first:
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / SETTINGS, (json.dumps(settings, indent=1) + "\n").encode())
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}): choose another --out") from error
    return run


def _restore(run: Run, settings: dict[str, Any], path: Path) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)  # Adam keeps its step counts on the CPU
    if json.loads(state["settings"]) != settings:
        raise UsageError(f"{path}: belongs to a run with other settings or cases: choose another --out")
    run.network.load_state_dict(state["network"])
    run.mean.load_state_dict(state["mean"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.losses, run.log = int(state["step"]), list(state["losses"]), json.loads(state["log"])


def save_run(run: Run, settings: dict[str, Any], out: Path, best: bool = False) -> None:
    """Writes the log, its table, the checkpoint and, as the best, the weights, each whole or not at all.

    Raises OutputError.
    """
    state = {
        "settings": json.dumps(settings),
        "network": run.network.state_dict(),
        "mean": run.mean.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
        "losses": run.losses,
        "log": json.dumps(run.log),
    }
    content = io.BytesIO()
    torch.save(state, content)
    try:
        if best:
            save_weights(out / BEST, run.mean)
        write_atomically(out / LOG, "".join(f"{json.dumps(entry)}\n" for entry in run.log).encode())
        write_atomically(out / TABLE, validation_csv(run.log).encode())
        write_atomically(out / LAST, content.getvalue())
    except OSError as error:
        raise OutputError(
            f"{out}: cannot be written ({error.strerror}): free some space, then start it again"
        ) from error
