"""`brats-opt train`: options in, a run's folder out, and on request a member in the weights folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brats_infer.ensemble import pick_device
from brats_infer.errors import UsageError
from brats_infer.preprocess import Normalisation
from brats_infer.tasks import task_named
from brats_infer.train.config import TrainConfig
from brats_infer.train.data import load_split
from brats_infer.train.loop import train
from brats_infer.train.publish import publish
from model.unet import UNetConfig


def run(
    *,
    task: str,
    data: Path,
    out: Path,
    hold_out: Sequence[str],
    skip: Sequence[str],
    channels: str,
    normalisation: str,
    patch: int,
    batch: int,
    steps: int,
    seed: int,
    device: str,
    publish_to: Path | None,
    trained_on: str,
    licence: str,
) -> dict[str, Any]:
    """Trains and returns the best validation. Raises UsageError for settings that cannot work."""
    try:
        network = UNetConfig(channels=tuple(int(c) for c in channels.split(",")))
        variant = Normalisation(normalisation)
    except ValueError as error:
        raise UsageError(f"--channels {channels} --normalisation {normalisation}: {error}") from error
    if patch < 1 or patch % network.multiple:
        raise UsageError(f"--patch {patch}: choose a multiple of {network.multiple} for {network.levels} levels")
    config = TrainConfig(network, variant, (patch, patch, patch), batch, steps, seed=seed)
    split = load_split(data, task, hold_out, skip, variant)
    best = train(config, split, task_named(task), out, pick_device(device))
    if publish_to:
        publish(publish_to, out, task, config, split, best, trained_on, licence)
    return best
