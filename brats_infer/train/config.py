"""The settings of one training run."""

from dataclasses import asdict, dataclass
from typing import Any

from brats_infer.train.choices import Augment, Freeze, Optimizer, Schedule, Selection
from brats_infer.train.options import TrainOptions
from model.config import UNetConfig

DEFAULT = TrainOptions.model_validate({})


@dataclass(frozen=True)
class TrainConfig:
    """One training run; stored with it, and compared when it is resumed."""

    network: UNetConfig
    normalisation: str
    patch: tuple[int, int, int] = (DEFAULT.patch, DEFAULT.patch, DEFAULT.patch)
    augment: Augment = DEFAULT.augment
    batch: int = DEFAULT.batch
    steps: int = DEFAULT.steps
    validate_every: int = 200
    """In steps."""
    loss: str = DEFAULT.loss
    """A name or weights, as `losses.loss_weights` reads them."""
    optimizer: Optimizer = DEFAULT.optimizer
    amsgrad: bool = DEFAULT.amsgrad
    """Adam and AdamW divide by the largest second moment so far."""
    weight_decay: float = DEFAULT.weight_decay
    learning_rate: float = DEFAULT.learning_rate
    schedule: Schedule = DEFAULT.schedule
    decay: float = DEFAULT.decay
    """Factor an epoch of the exponential schedule."""
    warm_up: int = DEFAULT.warm_up
    """Steps over which the rate rises from almost 0."""
    ema: float = DEFAULT.ema
    """Weight of the running mean of the parameters, which is what is validated and kept; 0: the parameters."""
    select: Selection = DEFAULT.select
    clean_labels: bool = DEFAULT.clean_labels
    """Whether dust was taken out of the training labels."""
    freeze: Freeze = DEFAULT.freeze
    initial_sha256: str = ""
    """Of the weights that training starts with; empty: random numbers."""
    seed: int = DEFAULT.seed
    phantom_share: float = DEFAULT.phantom_share
    """Of the patches that come from synthetic cases, where there are any."""
    anatomy: str | None = DEFAULT.anatomy
    """What synthetic cases are made of while training; None: they lie in a folder."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "network": self.network.to_json(), "patch": list(self.patch)}
