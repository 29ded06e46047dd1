"""The settings of one training run."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from brats_infer.errors import UsageError
from brats_infer.train.choices import Targets, TrainOptions
from model.config import UNetConfig

SETTINGS = "settings.json"
BEST = "best.safetensors"
VALIDATE_EVERY = 200  # steps


@dataclass(frozen=True)
class TrainConfig:
    """The options of one run, and the values that follow from them."""

    options: TrainOptions
    """`steps`, `validate_every` and `seed` are those of this run, not of all its folds."""
    initial_sha256: str = ""
    """The sha256 of the initial weights; empty for random weights."""
    architecture: UNetConfig = field(default_factory=UNetConfig)
    """The network of the initial weights. It gives what no option tells, such as kernels and strides."""
    modalities: int = UNetConfig.modalities
    """Of the task; so are the regions."""
    regions: int = UNetConfig.regions

    @property
    def network(self) -> UNetConfig:
        """Raises ValueError for channels that make no network."""
        return replace(
            self.architecture,
            background=False,
            logits=False,
            channels=self.options.channels,
            modalities=self.modalities,
            regions=self.regions,
            foreground=self.options.foreground,
            deep_supervision=self.options.deep_supervision,
            dropout=self.options.dropout,
            disjoint=self.options.targets == Targets.LABELS,
            spacing=self.options.spacing,
        )

    @property
    def patch(self) -> tuple[int, int, int]:
        """Shape of a training patch, in voxels of the network's grid."""
        return (self.options.patch, self.options.patch, self.options.patch)

    @property
    def validate_every(self) -> int:
        """In steps."""
        return self.options.validate_every or VALIDATE_EVERY

    def with_options(self, **changed: Any) -> Self:
        """The same run with other options; their values are not checked."""
        return replace(self, options=self.options.model_copy(update=changed))

    def to_json(self) -> dict[str, Any]:
        """Every option, and what follows from them; a derived entry replaces an option of the same name."""
        return {
            **self.options.model_dump(mode="json"),
            "network": self.network.to_json(),
            "patch": list(self.patch),
            "validate_every": self.validate_every,
            "initial_sha256": self.initial_sha256,
        }


def read_network(run: Path) -> tuple[UNetConfig, str, str]:
    """The network of a run, its normalisation and its task, empty if untold, from its settings. Raises UsageError."""
    path = run / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        network = UNetConfig.from_json(settings["network"])
        return network, str(settings["normalisation"]), str(settings.get("task", ""))
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UsageError(f"{path}: does not tell the network of the run ({error}): move the weights away") from error
