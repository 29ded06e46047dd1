"""Messages of a run: the cases first, then a line every minute and for each validation."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from brats_infer.system.console import Screen, say
from brats_infer.train.data.dataset import Split
from brats_infer.train.run_config import TrainConfig

SECONDS = 60.0


@dataclass
class Pace:
    """The speed since the start of the run or the last validation."""

    batch: int
    steps: int = 0
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether a minute has passed since the last true answer."""
        due = time.monotonic() - self.told >= SECONDS
        if due:
            self.told = time.monotonic()
        return due

    def entry(self, step: int, losses: Sequence[float]) -> dict[str, Any]:
        """{"step", "loss": mean or None without losses, "patches_per_second"}"""
        seconds = time.monotonic() - self.began
        return {
            "step": step,
            "loss": round(sum(losses) / len(losses), 4) if losses else None,
            "patches_per_second": round(self.steps * self.batch / seconds, 3),
        }


def teller(config: TrainConfig, split: Split) -> Callable[[dict[str, Any]], None]:
    """Writes the first line to stderr. Returns a function that writes entries of `Pace` or of the log there."""
    screen = Screen()
    say(screen, first_line(config, split))

    def tell(entry: dict[str, Any]) -> None:
        say(screen, line_of(entry, config))

    return tell


def first_line(config: TrainConfig, split: Split) -> str:
    """The numbers of cases, steps and patches. A missing case is noticed before hours of training."""
    used, options = [], config.options
    if split.training and (options.phantom_share < 1 or not split.synthetic):
        used.append(_counted(len(split.training), "case"))
    if split.synthetic and (options.phantom_share > 0 or not split.training):
        phantoms = "new phantoms" if split.fresh else _counted(len(split.phantoms), "phantom")
        used.append(f"{phantoms} ({options.phantom_share:.0%} of the patches)" if used else phantoms)
    return (
        f"training on {' and '.join(used)}, {len(split.validation)} held out; "
        f"{options.steps} steps of {_counted(options.batch, 'patch', 'patches')} of {config.patch[0]}^3"
    )


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def line_of(entry: dict[str, Any], config: TrainConfig) -> str:
    """One line for an entry of the log."""
    parts = [f"step {entry['step']} of {config.options.steps}"]
    if entry["loss"] is not None:
        parts.append(f"loss {entry['loss']:.3f}")
    if entry.get("cases"):
        parts.append(f"Dice {entry['dice']:.3f}, HD95 {entry['hd95']:.1f} mm on {len(entry['cases'])} held-out cases")
    if entry["patches_per_second"]:
        left = (config.options.steps - entry["step"]) * config.options.batch / entry["patches_per_second"]
        parts.append(f"{entry['patches_per_second']:.2f} patches/s, {left / 60:.0f} min left")
    return "; ".join(parts)


def silent(entry: dict[str, Any]) -> None:
    """Writes nothing: only the first of several processes writes messages."""
