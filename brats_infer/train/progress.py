"""What a person sees while a network trains: a line for each validation."""

from collections.abc import Callable
from typing import Any

import click

from brats_infer.train.config import TrainConfig


def teller(config: TrainConfig) -> Callable[[dict[str, Any]], None]:
    """Writes each entry of a run's log to stderr: step, loss, scores, throughput, time left."""

    def tell(entry: dict[str, Any]) -> None:
        click.echo(line_of(entry, config), err=True)

    return tell


def line_of(entry: dict[str, Any], config: TrainConfig) -> str:
    """One line for an entry of the log."""
    parts = [f"step {entry['step']} of {config.steps}"]
    if entry["loss"] is not None:
        parts.append(f"loss {entry['loss']:.3f}")
    if entry["cases"]:
        parts.append(f"Dice {entry['dice']:.3f}, HD95 {entry['hd95']:.1f} mm on {len(entry['cases'])} held-out cases")
    if entry["patches_per_second"]:
        left = (config.steps - entry["step"]) * config.batch / entry["patches_per_second"]
        parts.append(f"{entry['patches_per_second']:.2f} patches/s, {left / 60:.0f} min left")
    return "; ".join(parts)


def silent(entry: dict[str, Any]) -> None:
    """Says nothing: of several processes one speaks."""
