"""The training loop: steps, validation on whole brains, the best checkpoint, resume."""

import io
import json
import math
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brats_infer.ensemble import autocast, keep_brain, network_input, predict_member
from brats_infer.errors import Terminated, UsageError
from brats_infer.labels import labels_from_probabilities, regions_from_labels
from brats_infer.tasks import Task
from brats_infer.train.data import Split, TrainingCase
from brats_infer.train.losses import deep_supervision_loss
from brats_infer.train.patches import draw_batch
from model.atomic import write_atomically
from model.checkpoint import save_weights
from model.unet import UNet, UNetConfig

LAST = "last.pt"
BEST = "best.safetensors"
LOG = "log.jsonl"
WARM_UP_STEPS = 50
MAX_GRADIENT_NORM = 12.0


@dataclass(frozen=True)
class TrainConfig:
    """One training run; stored with it, and compared when it is resumed."""

    network: UNetConfig
    normalisation: str
    patch: tuple[int, int, int] = (96, 96, 96)
    batch: int = 1
    steps: int = 2000
    validate_every: int = 200
    learning_rate: float = 1e-3
    ema: float = 0.99
    """Weight of the running mean of the parameters, which is what is validated and kept."""
    seed: int = 0
    phantom_share: float = 0.0
    """Of the patches that come from synthetic cases, where there are any."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "network": self.network.to_json(), "patch": list(self.patch)}


@dataclass
class Run:
    """Everything that changes while training."""

    network: UNet
    mean: UNet
    """Exponential moving average of the network's parameters."""
    optimizer: torch.optim.Adam
    rng: np.random.Generator
    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    """What each validation found."""

    @property
    def best(self) -> dict[str, Any]:
        """The entry of the best validation, the later of equals."""
        return max(reversed(self.log), key=lambda entry: float(entry["dice"]), default={})


def train(config: TrainConfig, split: Split, task: Task, out: Path, device: torch.device) -> dict[str, Any]:
    """Trains, or goes on where `out` stopped; writes last.pt, best.safetensors and log.jsonl there.

    Returns the best validation's entry of the log. Without validation cases the last checkpoint is the best one.
    A run that Ctrl-C or SIGTERM stopped ends, resumed, with the parameters of one that nobody stopped. Raises
    UsageError if `out` holds another run, or if the settings do not fit or make the loss NaN.
    """
    if not config.network.fits(config.patch):
        raise UsageError(f"patches of {config.patch} do not fit {config.network.levels} levels: choose another --patch")
    out.mkdir(parents=True, exist_ok=True)
    settings = _settings(config, split, task)
    run = _start(config, settings, out, device)
    began, losses = time.monotonic(), []
    with _interrupts() as interrupts:
        try:
            while run.step < config.steps or _validation_due(run, config):
                if not _validation_due(run, config):
                    with interrupts.held():
                        losses.append(_step(run, config, split, device))
                    continue
                entry = {
                    "step": run.step,
                    "loss": round(float(np.mean(losses)), 4) if losses else None,  # since the resume
                    "seconds": round(time.monotonic() - began),
                    **validate(run.mean, split.validation, task, device),
                }
                with interrupts.held():
                    run.log.append(entry)
                    if run.best is entry:
                        save_weights(out / BEST, run.mean)
                    _save(run, settings, out)
                began, losses = time.monotonic(), []
        except (KeyboardInterrupt, Terminated):
            _save(run, settings, out)
            raise
    return run.best


def validate(network: UNet, cases: tuple[TrainingCase, ...], task: Task, device: torch.device) -> dict[str, Any]:
    """Dice of each region on whole brains in one pass, thresholded as in the container, without post-processing.

    Returns {"dice": mean, "cases": {ID: {region: Dice}}}; a region absent from both counts as 1.
    """
    scores: dict[str, dict[str, float]] = {}
    network.eval()
    for case in cases:
        image = case.image.float().numpy()
        brain = image[4] > 0
        x = torch.from_numpy(network_input(image[:4], brain, network.config.foreground)).to(device)
        with torch.inference_mode():
            probabilities = predict_member(network, x, window=None, flips=False).cpu().numpy()
        found = regions_from_labels(labels_from_probabilities(keep_brain(probabilities, brain), task), task)
        scores[case.id] = {
            region.name: round(_dice(predicted, true), 4)
            for region, predicted, true in zip(task.regions, found, case.regions.numpy(), strict=True)
        }
    values = [value for case_scores in scores.values() for value in case_scores.values()]
    return {"dice": round(float(np.mean(values)), 4) if values else 0.0, "cases": scores}


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    size = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / size if size else 1.0


def _validation_due(run: Run, config: TrainConfig) -> bool:
    """Whether the step that was made last asks for a validation that was not made yet."""
    asked = run.step > 0 and (run.step % config.validate_every == 0 or run.step == config.steps)
    return asked and (not run.log or run.log[-1]["step"] < run.step)


def _step(run: Run, config: TrainConfig, split: Split, device: torch.device) -> float:
    images, targets = draw_batch(
        split, config.phantom_share, config.patch, config.batch, config.network.foreground, run.rng
    )
    rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * run.step / config.steps))
    for group in run.optimizer.param_groups:  # a plain float: with numpy's, the checkpoint could not be read again
        group["lr"] = rate * min(1.0, (run.step + 1) / WARM_UP_STEPS)
    run.network.train()
    with autocast(device):
        heads = run.network.forward_heads(images.to(device))
    loss: Tensor = deep_supervision_loss(heads, targets.to(device))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UsageError(f"the loss became {value} at step {run.step}: choose a lower learning rate")
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.network.parameters(), MAX_GRADIENT_NORM)
    run.optimizer.step()
    run.step += 1
    keep = min(config.ema, run.step / (run.step + 10))
    with torch.no_grad():
        for mean, now in zip(run.mean.parameters(), run.network.parameters(), strict=True):
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


def _start(config: TrainConfig, settings: dict[str, Any], out: Path, device: torch.device) -> Run:
    torch.manual_seed(config.seed)
    network, mean = UNet(config.network).to(device), UNet(config.network).to(device)
    mean.load_state_dict(network.state_dict())
    run = Run(
        network, mean, torch.optim.Adam(network.parameters(), config.learning_rate), np.random.default_rng(config.seed)
    )
    path = out / LAST
    if path.exists():
        try:
            _restore(run, settings, path)
        except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError) as error:
            raise UsageError(f"{path}: is damaged, or of another version: choose another --out") from error
    return run


def _restore(run: Run, settings: dict[str, Any], path: Path) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)  # Adam keeps its step counts on the CPU
    if json.loads(state["settings"]) != settings:
        raise UsageError(f"{path}: belongs to a run with other settings or cases: choose another --out")
    run.network.load_state_dict(state["network"])
    run.mean.load_state_dict(state["mean"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.rng.bit_generator.state = json.loads(state["rng"])
    run.step, run.log = int(state["step"]), json.loads(state["log"])


def _save(run: Run, settings: dict[str, Any], out: Path) -> None:
    """Writes the log and the checkpoint, each whole or not at all."""
    state = {
        "settings": json.dumps(settings),
        "network": run.network.state_dict(),
        "mean": run.mean.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "rng": json.dumps(run.rng.bit_generator.state),
        "step": run.step,
        "log": json.dumps(run.log),
    }
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(out / LOG, "".join(f"{json.dumps(entry)}\n" for entry in run.log).encode())
    write_atomically(out / LAST, content.getvalue())


@dataclass
class _Interrupts:
    """Ctrl-C and SIGTERM as exceptions, held back where half of the work could not be resumed."""

    holding: bool = False
    waiting: BaseException | None = None

    def arrive(self, number: int, _: object) -> None:
        error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if not self.holding:
            raise error
        self.waiting = error

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.waiting:
            raise self.waiting


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    interrupts = _Interrupts()
    # one that is ignored stays so, as for a command that a shell started in the background
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.arrive) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
