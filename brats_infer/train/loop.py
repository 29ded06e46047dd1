"""The training loop: steps, validation on whole brains, checkpoints."""

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
from brats_infer.train.data.dataset import Split
from brats_infer.train.data.patches import draw_batch, kept_on
from brats_infer.train.distributed import Workers
from brats_infer.train.monitor.curves import Curves
from brats_infer.train.monitor.pace import Pace
from brats_infer.train.monitor.validation import ALONE, validate
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.step.losses import Loss, deep_supervision_loss, disjoint_targets, loss_weights, weighted
from brats_infer.train.step.optimisers import learning_rate
from brats_infer.train.transfer import Initial

MAX_GRADIENT_NORM = 12.0


class LossIsNoNumberError(UsageError):
    """The loss or the weights became NaN, infinite or too large."""


class WorkerLostError(UsageError):
    """Another process of the run has ended."""


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
    """Trains a new run, or resumes the run in `out`.

    Writes last.pt, best.safetensors, settings.json, log.jsonl and validation.csv there, and curves if tensorboard is
    installed. Returns the log's entry of the best validation. Without validation cases the last checkpoint is the best.
    On CPUs a run that Ctrl-C or SIGTERM stopped and that resumes ends with the same parameters as an unstopped run.
    `on_validation` gets each entry of the log, `on_pace` an entry every minute; an error that they raise ends the run.

    Raises UsageError if `out` holds another run, if the settings do not fit each other, if the loss or the weights
    become NaN, or if another process ends; OutputError if `out` cannot be written.
    """
    _check(config, workers)
    loss = weighted(loss_weights(config.options.loss))
    settings = settings_of(config, split, task)
    run = start_run(config, settings, out, device, initial, workers)
    split = kept_on(split, device)
    epoch_steps = steps_of_epoch(split, config.options.batch)
    pace = Pace(config.options.batch)
    with raising(), Curves(out, run.step) as curves, _saved_when_stopped(run, settings, out):
        while run.step < config.options.steps or _validation_due(run, config):
            if not _validation_due(run, config):
                with held():
                    rate = learning_rate(config.options, run.step, epoch_steps)
                    run.losses.append(take_step(run, config, split, loss, rate, device))
                pace.steps += 1
                if pace.is_due():
                    on_pace(pace.entry(run.step, run.losses))
                continue
            _check_weights(run)
            scores = validate(run.mean, split.validation, task, device, config.options.select, workers)
            entry = {**pace.entry(run.step, run.losses), **scores}
            with held():
                run.log.append(entry)
                run.losses = []
                if workers.first:
                    save_run(run, settings, out, best=run.best is entry)
                    curves.add(entry, run.optimizer.param_groups[0]["lr"])
            on_validation(entry)
            pace = Pace(config.options.batch)
    return run.best


def _check(config: TrainConfig, workers: Workers) -> None:
    """Raises UsageError for a patch that does not fit the network, or a batch that does not fit the processes."""
    if not config.network.fits(config.patch):
        raise UsageError(f"patches of {config.patch} do not fit {config.network.levels} levels: choose another --patch")
    if config.options.batch % workers.count:
        raise UsageError(f"--batch {config.options.batch}: choose a multiple of the {workers.count} processes")


@contextmanager
def _saved_when_stopped(run: Run, settings: dict[str, Any], out: Path) -> Iterator[None]:
    """Saves `last.pt` if a signal stops the run or one of its processes. A second signal does not stop the saving."""
    try:
        yield
    except (KeyboardInterrupt, Terminated):
        if run.workers.first:
            save_run(run, settings, out)
        raise
    except RuntimeError as error:  # collective operations raise it, before the optimiser's step
        if run.workers.count == 1 or is_out_of_memory(error):
            raise
        if run.workers.first:
            save_run(run, settings, out)
        reason = str(error).partition("\n")[0]
        raise WorkerLostError(
            f"{out}: another process has ended ({reason}): see why, then start the run again"
        ) from error


def steps_of_epoch(split: Split, batch: int) -> int:
    """Steps of an epoch: one patch for each training case, or without any for each phantom; at least one step."""
    return max(1, -(-len(split.training or split.phantoms) // batch))


def _validation_due(run: Run, config: TrainConfig) -> bool:
    """Whether the last step asks for a validation that is not done yet."""
    asked = run.step > 0 and (run.step % config.validate_every == 0 or run.step == config.options.steps)
    return asked and (not run.log or run.log[-1]["step"] < run.step)


def take_step(run: Run, config: TrainConfig, split: Split, loss: Loss, rate: float, device: torch.device) -> float:
    """One step on this worker's share of the batch; returns the loss of the whole batch."""
    workers, options = run.workers, config.options
    workers.meet()
    rngs = [np.random.default_rng((options.seed, run.step, number)) for number in workers.share(options.batch)]
    images, targets = draw_batch(split, config, rngs, device)
    if config.network.disjoint:
        targets = disjoint_targets(targets)
    for group in run.optimizer.param_groups:  # a plain float: `weights_only` refuses numpy's
        group["lr"] = rate
    # the seed of dropout: a resumed run drops the same feature maps
    torch.manual_seed((options.seed + run.step) * workers.count + workers.rank)
    run.network.train()
    with autocast(device):
        heads = run.heads(images)
    total = deep_supervision_loss(heads, targets, loss)
    run.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    value = workers.mean(total)  # behind the backward pass: it waits for the GPU
    if not math.isfinite(value):
        raise LossIsNoNumberError(f"the loss became {value} at step {run.step}: choose a lower --learning-rate")
    nn.utils.clip_grad_norm_([p for p in run.network.parameters() if p.requires_grad], MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.step += 1
    keep = min(options.ema, run.step / (run.step + 10))
    with torch.no_grad():
        for mean, now in zip(run.mean.parameters(), run.network.parameters(), strict=True):
            if now.requires_grad:
                mean.lerp_(now, 1 - keep)
    return value


def _check_weights(run: Run) -> None:
    """Raises LossIsNoNumberError for weights that are NaN, infinite or beyond float16: no file can hold them."""
    largest = torch.finfo(torch.float16).max
    if not all(bool(p.abs().max() <= largest) for p in run.mean.parameters()):
        raise LossIsNoNumberError(
            f"the weights are NaN or beyond {largest:g} at step {run.step}: choose a lower --learning-rate"
        )
