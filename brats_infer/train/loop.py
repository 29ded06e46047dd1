"""The training loop: steps, validation on whole brains, the best checkpoint, resume."""

import io
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from brats_infer.devices import autocast
from brats_infer.errors import OutputError, Terminated, UsageError
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import Task
from brats_infer.train.choices import Selection
from brats_infer.train.config import TrainConfig
from brats_infer.train.curves import Curves, validation_csv
from brats_infer.train.data import Split
from brats_infer.train.distributed import Workers, heads_of
from brats_infer.train.interrupts import interrupts_as_exceptions
from brats_infer.train.losses import Loss, deep_supervision_loss, disjoint_targets, loss_weights, weighted
from brats_infer.train.optimisers import learning_rate, make_optimizer
from brats_infer.train.patches import draw_batch
from brats_infer.train.progress import Pace
from brats_infer.train.transfer import Initial, freeze
from brats_infer.train.validation import ALONE, validate
from model.atomic import write_atomically
from model.checkpoint import save_weights
from model.unet import UNet

LAST = "last.pt"
BEST = "best.safetensors"
LOG = "log.jsonl"
TABLE = "validation.csv"
SETTINGS = "settings.json"
MAX_GRADIENT_NORM = 12.0


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
    log: list[dict[str, Any]] = field(default_factory=list)
    """What each validation found."""

    @property
    def best(self) -> dict[str, Any]:
        """The entry of the best validation, the later of equals."""
        key = "step" if self.select == Selection.LAST else "score"
        return max(reversed(self.log), key=lambda entry: float(entry[key]), default={})


class LossIsNoNumberError(UsageError):
    """Training went astray."""


def train(
    config: TrainConfig,
    split: Split,
    task: Task,
    out: Path,
    device: torch.device,
    initial: Initial | None = None,
    on_validation: Callable[[dict[str, Any]], None] = lambda _: None,
    workers: Workers = ALONE,
    on_pace: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Trains, or goes on where `out` stopped.

    Writes last.pt, best.safetensors, settings.json, log.jsonl, validation.csv and, where tensorboard is installed, its
    curves there. Returns the best validation's entry of the log; without validation cases the last checkpoint is the
    best one. A run that Ctrl-C or SIGTERM stopped ends, resumed, with the parameters of one that nobody stopped.
    `on_validation` is told each entry of the log, `on_pace` every minute how far it is; what they raise ends the run.
    Raises UsageError if `out` holds another run, or if the settings do not fit or make the loss NaN, OutputError if it
    cannot be written.
    """
    if not config.network.fits(config.patch):
        raise UsageError(f"patches of {config.patch} do not fit {config.network.levels} levels: choose another --patch")
    if config.batch % workers.count:
        raise UsageError(f"--batch {config.batch}: choose a multiple of the {workers.count} processes")
    loss = weighted(loss_weights(config.loss))
    settings = _settings(config, split, task)
    run = _start(config, settings, out, device, initial, workers)
    window = config.patch if Settings.mode == Mode.ACCURATE else None  # as `brats-opt infer` unless told otherwise
    epoch_steps = steps_of_epoch(split, config.batch)
    pace = Pace(config.batch)
    with interrupts_as_exceptions() as interrupts, Curves(out, run.step) as curves:
        try:
            while run.step < config.steps or _validation_due(run, config):
                if not _validation_due(run, config):
                    with interrupts.held():
                        rate = learning_rate(config, run.step, epoch_steps)
                        pace.losses.append(_step(run, config, split, loss, rate, device))
                    if pace.is_due():
                        on_pace(pace.entry(run.step))
                    continue
                entry = {
                    **pace.entry(run.step),
                    **validate(run.mean, split.validation, task, device, config.select, workers, window),
                }
                with interrupts.held():
                    run.log.append(entry)
                    if workers.first:
                        _save(run, settings, out, best=run.best is entry)
                        curves.add(entry, run.optimizer.param_groups[0]["lr"])
                on_validation(entry)
                pace = Pace(config.batch)
        except (KeyboardInterrupt, Terminated):
            if workers.first:
                _save(run, settings, out)
            raise
    return run.best


def steps_of_epoch(split: Split, batch: int) -> int:
    """An epoch is one patch for each training case, or where there is none, for each phantom."""
    return -(-len(split.training or split.phantoms) // batch)


def _validation_due(run: Run, config: TrainConfig) -> bool:
    """Whether the step that was made last asks for a validation that was not made yet."""
    asked = run.step > 0 and (run.step % config.validate_every == 0 or run.step == config.steps)
    return asked and (not run.log or run.log[-1]["step"] < run.step)


def _step(run: Run, config: TrainConfig, split: Split, loss: Loss, rate: float, device: torch.device) -> float:
    """One step on this worker's share of the batch; returns the loss of the whole batch."""
    workers = run.workers
    rngs = [np.random.default_rng((config.seed, run.step, number)) for number in workers.share(config.batch)]
    images, targets = draw_batch(split, config, rngs, device)
    if config.network.disjoint:
        targets = disjoint_targets(targets)
    for group in run.optimizer.param_groups:  # a plain float: with numpy's, the checkpoint could not be read again
        group["lr"] = rate
    # of dropout: a resumed run drops the same
    torch.manual_seed((config.seed + run.step) * workers.count + workers.rank)
    run.network.train()
    with autocast(device):
        heads = run.heads(images)
    total = deep_supervision_loss(heads, targets, loss)
    value = workers.mean(total)
    if not math.isfinite(value):
        raise LossIsNoNumberError(f"the loss became {value} at step {run.step}: choose a lower --learning-rate")
    run.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for p in run.network.parameters() if p.requires_grad], MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.step += 1
    keep = min(config.ema, run.step / (run.step + 10))
    with torch.no_grad():
        for mean, now in zip(run.mean.parameters(), run.network.parameters(), strict=True):
            if now.requires_grad:
                mean.lerp_(now, 1 - keep)
    return value


def _settings(config: TrainConfig, split: Split, task: Task) -> dict[str, Any]:
    """What makes a run this one: going on with other cases would train on those held out before."""
    return {
        **config.to_json(),
        "task": task.name,
        "training": [case.id for case in split.training],
        "validation": [case.id for case in split.validation],
        "phantoms": [case.id for case in split.phantoms],
    }


def _start(
    config: TrainConfig,
    settings: dict[str, Any],
    out: Path,
    device: torch.device,
    initial: Initial | None,
    workers: Workers,
) -> Run:
    torch.manual_seed(config.seed)
    network, mean = UNet(config.network), UNet(config.network)
    if initial:
        initial.put_into(network)
    mean.load_state_dict(network.state_dict())
    network, mean = network.to(device), mean.to(device)
    freeze(network, config.freeze)
    optimizer = make_optimizer(config, [p for p in network.parameters() if p.requires_grad])
    run = Run(network, mean, optimizer, workers, heads_of(network, workers), config.select)
    path = out / LAST
    if path.exists():
        try:
            _restore(run, settings, path)
        except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError, OSError) as error:
            raise UsageError(f"{path}: is damaged, or of another version: choose another --out") from error
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
    run.step, run.log = int(state["step"]), json.loads(state["log"])


def _save(run: Run, settings: dict[str, Any], out: Path, best: bool = False) -> None:
    """Writes the log, its table, the checkpoint and, as the best, the weights, each whole or not at all.

    Raises OutputError.
    """
    state = {
        "settings": json.dumps(settings),
        "network": run.network.state_dict(),
        "mean": run.mean.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "step": run.step,
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
