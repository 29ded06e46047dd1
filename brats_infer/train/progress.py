"""What a person sees while a network trains: a line every minute and for each validation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from brats_infer.screen import Screen, say
from brats_infer.train.config import TrainConfig

SECONDS = 60.0


@dataclass
class Pace:
    """How fast it has gone since the run was started, or last validated."""

    batch: int
    steps: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether a minute has passed since this was last true."""
        due = time.monotonic() - self.told >= SECONDS
        if due:
            self.told = time.monotonic()
        return due

    def entry(self, step: int, losses: Sequence[float]) -> dict[str, Any]:
        """{"step", "loss": mean, None without any, "patches_per_second"}"""
        seconds = time.monotonic() - self.began
        return {
            "step": step,
            "loss": round(sum(losses) / len(losses), 4) if losses else None,
            "patches_per_second": round(self.steps * self.batch / seconds, 3),
        }


def teller(config: TrainConfig) -> Callable[[dict[str, Any]], None]:
    """Writes an entry of `Pace` or of a run's log to stderr: step, loss, scores, throughput, time left."""

    screen = Screen()

    def tell(entry: dict[str, Any]) -> None:
        say(screen, line_of(entry, config))

    return tell


def line_of(entry: dict[str, Any], config: TrainConfig) -> str:
    """One line for an entry of the log."""
    parts = [f"step {entry['step']} of {config.steps}"]
    if entry["loss"] is not None:
        parts.append(f"loss {entry['loss']:.3f}")
    if entry.get("cases"):
        parts.append(f"Dice {entry['dice']:.3f}, HD95 {entry['hd95']:.1f} mm on {len(entry['cases'])} held-out cases")
    if entry["patches_per_second"]:
        left = (config.steps - entry["step"]) * config.batch / entry["patches_per_second"]
        parts.append(f"{entry['patches_per_second']:.2f} patches/s, {left / 60:.0f} min left")
    return "; ".join(parts)


def silent(entry: dict[str, Any]) -> None:
    """Says nothing: of several processes one speaks."""
