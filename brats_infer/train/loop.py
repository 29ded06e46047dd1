"""The training loop: steps, validation on whole brains, the best checkpoint, resume."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brats_infer.ensemble import autocast, network_input, predict_member
from brats_infer.errors import Terminated, UsageError
from brats_infer.labels import labels_from_probabilities, regions_from_labels
from brats_infer.tasks import Task
from brats_infer.train.data import Split, TrainingCase
from brats_infer.train.losses import deep_supervision_loss
from brats_infer.train.patches import draw_batch
from model.checkpoint import save_weights
from model.unet import UNet, UNetConfig

LAST = "last.pt"
BEST = "best.safetensors"
LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainConfig:
    """One training run; stored with it, and compared when it is resumed."""

    network: UNetConfig
    normalisation: str
    patch: tuple[int, int, int] = (96, 96, 96)
    batch: int = 1
    steps: int = 2000
    validate_every: int = 100
    learning_rate: float = 1e-3
    ema: float = 0.99
    """Weight of the running mean of the parameters, which is what is validated and kept."""
    seed: int = 0

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
    best: float = -1.0


def train(config: TrainConfig, split: Split, task: Task, out: Path, device: torch.device) -> dict[str, Any]:
    """Trains, or goes on where `out` stopped; writes last.pt, best.safetensors and log.jsonl there.

    Returns the best validation's entry of the log. Without validation cases the last checkpoint is the best one.
    Raises UsageError if `out` holds another run.
    """
    out.mkdir(parents=True, exist_ok=True)
    run = _start(config, out, device)
    began, losses, best = time.monotonic(), [], _best_entry(out)
    with _terminate_on_sigterm():
        try:
            while run.step < config.steps:
                losses.append(_step(run, config, split.training, device))
                if run.step % config.validate_every == 0 or run.step == config.steps:
                    entry = {
                        "step": run.step,
                        "loss": round(float(np.mean(losses)), 4),
                        "seconds": round(time.monotonic() - began),
                    }
                    entry |= validate(run.mean, split.validation, task, device)
                    if entry["dice"] >= run.best or not split.validation:
                        run.best, best = entry["dice"], entry
                        save_weights(out / BEST, run.mean)
                    _save(run, config, out)
                    _log(out, entry)
                    began, losses = time.monotonic(), []
        except (KeyboardInterrupt, Terminated):
            _save(run, config, out)
            raise
    return best


def validate(network: UNet, cases: tuple[TrainingCase, ...], task: Task, device: torch.device) -> dict[str, Any]:
    """Dice of each region on whole brains in one pass, thresholded as in the container, without post-processing.

    Returns {"dice": mean, "cases": {ID: {region: Dice}}}; a region absent from both counts as 1.
    """
    scores: dict[str, dict[str, float]] = {}
    network.eval()
    for case in cases:
        image = case.image.float().numpy()
        x = torch.from_numpy(network_input(image[:4], image[4] > 0, network.config.foreground)).to(device)
        with torch.inference_mode():
            probabilities = predict_member(network, x, window=None, flips=False).cpu().numpy()
        found = regions_from_labels(labels_from_probabilities(probabilities, task), task)
        scores[case.id] = {
            region.name: round(_dice(predicted, true), 4)
            for region, predicted, true in zip(task.regions, found, case.regions.numpy(), strict=True)
        }
    values = [value for case_scores in scores.values() for value in case_scores.values()]
    return {"dice": round(float(np.mean(values)), 4) if values else 0.0, "cases": scores}


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    size = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / size if size else 1.0


def _step(run: Run, config: TrainConfig, cases: tuple[TrainingCase, ...], device: torch.device) -> float:
    images, targets = draw_batch(cases, config.patch, config.batch, config.network.foreground, run.rng)
    rate = config.learning_rate * 0.5 * (1 + np.cos(np.pi * run.step / config.steps))
    for group in run.optimizer.param_groups:
        group["lr"] = rate * min(1.0, (run.step + 1) / 50)
    run.network.train()
    with autocast(device):
        heads = run.network.forward_heads(images.to(device))
    loss: Tensor = deep_supervision_loss(heads, targets.to(device))
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.network.parameters(), 12.0)
    run.optimizer.step()
    run.step += 1
    keep = min(config.ema, run.step / (run.step + 10))
    with torch.no_grad():
        for mean, now in zip(run.mean.parameters(), run.network.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
    return float(loss.detach())


def _start(config: TrainConfig, out: Path, device: torch.device) -> Run:
    torch.manual_seed(config.seed)
    network, mean = UNet(config.network).to(device), UNet(config.network).to(device)
    mean.load_state_dict(network.state_dict())
    run = Run(
        network, mean, torch.optim.Adam(network.parameters(), config.learning_rate), np.random.default_rng(config.seed)
    )
    path = out / LAST
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        if json.loads(state["config"]) != config.to_json():
            raise UsageError(f"{path}: belongs to a run with other settings: choose another --out")
        run.network.load_state_dict(state["network"])
        run.mean.load_state_dict(state["mean"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.rng.bit_generator.state = json.loads(state["rng"])
        run.step, run.best = state["step"], state["best"]
    return run


def _save(run: Run, config: TrainConfig, out: Path) -> None:
    state = {
        "config": json.dumps(config.to_json()),
        "network": run.network.state_dict(),
        "mean": run.mean.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "rng": json.dumps(run.rng.bit_generator.state),
        "step": run.step,
        "best": run.best,
    }
    temporary = out / f"{LAST}.part"
    torch.save(state, temporary)
    temporary.replace(out / LAST)


def _log(out: Path, entry: dict[str, Any]) -> None:
    with (out / LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def _best_entry(out: Path) -> dict[str, Any]:
    entries = [json.loads(line) for line in (out / LOG).read_text().splitlines()] if (out / LOG).exists() else []
    return max(entries, key=lambda entry: entry["dice"], default={})


@contextmanager
def _terminate_on_sigterm() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
