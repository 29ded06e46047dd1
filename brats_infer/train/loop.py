"""The training loop: steps, validation on whole brains, the best checkpoint, resume."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from brats_infer.errors import Terminated, UsageError, is_out_of_memory
from brats_infer.network.devices import autocast
from brats_infer.system.signals import held, raising
from brats_infer.tasks import Task
from brats_infer.train.checkpoint import Run, save_run, settings_of, start_run
from brats_infer.train.config import TrainConfig
from brats_infer.train.data.dataset import Split
from brats_infer.train.data.patches import draw_batch, kept_on
from brats_infer.train.distributed import Workers
from brats_infer.train.losses import Loss, deep_supervision_loss, disjoint_targets, loss_weights, weighted
from brats_infer.train.monitor.curves import Curves
from brats_infer.train.monitor.pace import Pace
from brats_infer.train.monitor.validation import ALONE, validate
from brats_infer.train.optimisers import learning_rate
from brats_infer.train.transfer import Initial

MAX_GRADIENT_NORM = 12.0


class LossIsNoNumberError(UsageError):
    """Training went astray."""


class WorkerLostError(UsageError):
    """Of several processes, another one has gone."""


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
    best one. Resumed on CPUs, a run that Ctrl-C or SIGTERM stopped ends with the parameters of one that nobody stopped.
    `on_validation` is told each entry of the log, `on_pace` every minute how far it is; what they raise ends the run.
    Raises UsageError if `out` holds another run, if the settings do not fit or make the loss or the weights NaN, or if
    another process ends; OutputError if it cannot be written.
    """
    if not config.network.fits(config.patch):
        raise UsageError(f"patches of {config.patch} do not fit {config.network.levels} levels: choose another --patch")
    if config.batch % workers.count:
        raise UsageError(f"--batch {config.batch}: choose a multiple of the {workers.count} processes")
    loss = weighted(loss_weights(config.loss))
    settings = settings_of(config, split, task)
    run = start_run(config, settings, out, device, initial, workers)
    split = kept_on(split, device)
    epoch_steps = steps_of_epoch(split, config.batch)
    pace = Pace(config.batch)
    with (
        raising(),
        Curves(out, run.step) as curves,
        _saved_when_stopped(run, settings, out),
    ):
        while run.step < config.steps or _validation_due(run, config):
            if not _validation_due(run, config):
                with held():
                    rate = learning_rate(config, run.step, epoch_steps)
                    run.losses.append(_step(run, config, split, loss, rate, device))
                pace.steps += 1
                if pace.is_due():
                    on_pace(pace.entry(run.step, run.losses))
                continue
            _check_weights(run)
            entry = {
                **pace.entry(run.step, run.losses),
                **validate(run.mean, split.validation, task, device, config.select, workers),
            }
            with held():
                run.log.append(entry)
                run.losses = []
                if workers.first:
                    save_run(run, settings, out, best=run.best is entry)
                    curves.add(entry, run.optimizer.param_groups[0]["lr"])
            on_validation(entry)
            pace = Pace(config.batch)
    return run.best


@contextmanager
def _saved_when_stopped(run: Run, settings: dict[str, Any], out: Path) -> Iterator[None]:
    """Leaves `last.pt` behind where the run is stopped, or one of its processes is; a second signal stops nothing."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if run.workers.first:
            save_run(run, settings, out)
        raise
    except RuntimeError as error:  # of what all processes do together: no step is half done
        if run.workers.count == 1 or is_out_of_memory(error):
            raise
        if run.workers.first:
            save_run(run, settings, out)
        reason = str(error).partition("\n")[0]
        raise WorkerLostError(
            f"{out}: another process has ended ({reason}): see why, then start the run again"
        ) from error


def steps_of_epoch(split: Split, batch: int) -> int:
    """An epoch is one patch for each training case, or where there is none, for each phantom; a step at least."""
    return max(1, -(-len(split.training or split.phantoms) // batch))


def _validation_due(run: Run, config: TrainConfig) -> bool:
    """Whether the step that was made last asks for a validation that was not made yet."""
    asked = run.step > 0 and (run.step % config.validate_every == 0 or run.step == config.steps)
    return asked and (not run.log or run.log[-1]["step"] < run.step)


def _step(run: Run, config: TrainConfig, split: Split, loss: Loss, rate: float, device: torch.device) -> float:
    """One step on this worker's share of the batch; returns the loss of the whole batch."""
    workers = run.workers
    workers.meet()
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
    run.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    value = workers.mean(total)  # not before: it waits for the GPU
    if not math.isfinite(value):
        raise LossIsNoNumberError(f"the loss became {value} at step {run.step}: choose a lower --learning-rate")
    nn.utils.clip_grad_norm_([p for p in run.network.parameters() if p.requires_grad], MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.step += 1
    keep = min(config.ema, run.step / (run.step + 10))
    with torch.no_grad():
        for mean, now in zip(run.mean.parameters(), run.network.parameters(), strict=True):
            if now.requires_grad:
                mean.lerp_(now, 1 - keep)
    return value


def _check_weights(run: Run) -> None:
    """Raises LossIsNoNumberError where the weights cannot be published: NaN, Inf or beyond float16."""
    largest = torch.finfo(torch.float16).max
    if not all(bool(p.abs().max() <= largest) for p in run.mean.parameters()):
        raise LossIsNoNumberError(
            f"the weights are NaN or beyond {largest:g} at step {run.step}: choose a lower --learning-rate"
        )
