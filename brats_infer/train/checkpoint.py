"""The state of a run and its files: a run starts, is saved, and resumes."""

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
from brats_infer.tasks import Task, task_named
from brats_infer.train.choices import Selection, TrainOptions, recorded_elsewhere
from brats_infer.train.data.dataset import Split
from brats_infer.train.distributed import Workers, heads_of
from brats_infer.train.monitor.curves import validation_csv
from brats_infer.train.run_config import BEST, SETTINGS, TrainConfig
from brats_infer.train.step.memory_format import keep_channels_last
from brats_infer.train.step.optimisers import make_optimizer
from brats_infer.train.step.precision import keep_small_exact
from brats_infer.train.transfer import Initial, freeze
from model.atomic import write_atomically
from model.checkpoint import save_weights
from model.config import UNetConfig
from model.unet import UNet

LAST = "last.pt"
LOG = "log.jsonl"
TABLE = "validation.csv"


@dataclass
class Run:
    """Everything that changes while training."""

    network: UNet
    mean: UNet
    """Exponential moving average of the network's parameters."""
    optimizer: torch.optim.Optimizer
    workers: Workers
    heads: nn.Module
    """Computes the outputs of the network's heads. With several workers it averages their gradients."""
    select: Selection = Selection.DICE
    step: int = 0
    losses: list[float] = field(default_factory=list)
    """The loss of each step since the last validation."""
    log: list[dict[str, Any]] = field(default_factory=list)
    """The entries of the validations."""

    @property
    def best(self) -> dict[str, Any]:
        """The entry of the best validation; of equal ones, the latest."""
        key = "step" if self.select == Selection.LAST else "score"
        return max(reversed(self.log), key=lambda entry: float(entry[key]), default={})


def read_best(run: Path) -> bytes:
    """The content of a run's best checkpoint. Raises OutputError if it is damaged, OSError if it is missing."""
    content = (run / BEST).read_bytes()
    try:
        load(content)
    except SafetensorError as error:
        raise OutputError(f"{run / BEST}: is damaged ({error}): check the disk, then choose another --out") from error
    return content


def best_network(run: Path, config: UNetConfig) -> UNet:
    """The network of a run's best checkpoint. Raises what `read_best` does."""
    network = UNet(config)
    network.load_state_dict({name: tensor.float() for name, tensor in load(read_best(run)).items()})
    return network


def settings_of(config: TrainConfig, split: Split, task: Task) -> dict[str, Any]:
    """The settings that identify a run. The cases belong to them: other cases would train on held-out cases."""
    return {
        **config.to_json(),
        "task": task.name,
        "training": [case.id for case in split.training],
        "validation": [case.id for case in split.validation],
        "phantoms": [case.id for case in split.phantoms],
    }


def same_run(stored: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether settings describe the run that stored settings began.

    An option that the stored settings lack did not exist then: its default counts.
    """
    defaults = TrainConfig(TrainOptions()).to_json()
    return _compared({**defaults, **stored}) == _compared(settings)


def _compared(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if name not in TrainOptions.model_fields or not recorded_elsewhere(name)
    }


def start_run(
    config: TrainConfig,
    settings: dict[str, Any],
    out: Path,
    device: torch.device,
    initial: Initial | None,
    workers: Workers,
) -> Run:
    """A run at its first step, or at the step where `out` stopped.

    Raises UsageError for the folder of another run, OutputError for a folder that cannot be written.
    """
    torch.manual_seed(config.options.seed)
    network, mean = UNet(config.network), UNet(config.network)
    if initial:
        initial.put_into(network, task_named(settings["task"]))
    mean.load_state_dict(network.state_dict())
    network, mean = network.to(device), mean.to(device)
    if device.type == "cpu":
        keep_channels_last(network)
        keep_channels_last(mean)
    keep_small_exact(network)
    freeze(network, config.options.freeze)
    optimizer = make_optimizer(config.options, [p for p in network.parameters() if p.requires_grad])
    run = Run(network, mean, optimizer, workers, heads_of(network, workers), config.options.select)
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
    if not same_run(json.loads(state["settings"]), settings):
        raise UsageError(f"{path}: belongs to a run with other settings or cases: choose another --out")
    run.network.load_state_dict(state["network"])
    run.mean.load_state_dict(state["mean"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.step, run.losses, run.log = int(state["step"]), list(state["losses"]), json.loads(state["log"])


def save_run(run: Run, settings: dict[str, Any], out: Path, best: bool = False) -> None:
    """Writes the log, its table and the checkpoint, and with `best` the weights; each file whole or not at all.

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
