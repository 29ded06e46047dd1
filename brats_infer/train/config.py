"""The settings of one training run."""

from dataclasses import asdict, dataclass
from typing import Any

from brats_infer.train.choices import Augment, Freeze, Optimizer, Schedule, Selection
from model.unet import UNetConfig


@dataclass(frozen=True)
class TrainConfig:
    """One training run; stored with it, and compared when it is resumed."""

    network: UNetConfig
    normalisation: str
    patch: tuple[int, int, int] = (96, 96, 96)
    augment: Augment = Augment.ALL
    batch: int = 1
    steps: int = 2000
    validate_every: int = 200
    """In steps."""
    loss: str = "dice-bce"
    """A name or weights, as `losses.loss_weights` reads them."""
    optimizer: Optimizer = Optimizer.ADAM
    amsgrad: bool = False
    """Adam and AdamW divide by the largest second moment so far."""
    weight_decay: float = 0.0
    learning_rate: float = 1e-3
    schedule: Schedule = Schedule.COSINE
    decay: float = 0.995
    """Factor an epoch of the exponential schedule."""
    warm_up: int = 50
    """Steps over which the rate rises from almost 0."""
    ema: float = 0.99
    """Weight of the running mean of the parameters, which is what is validated and kept; 0: the parameters."""
    select: Selection = Selection.DICE
    clean_labels: bool = False
    """Whether dust was taken out of the training labels."""
    freeze: Freeze = Freeze.NONE
    initial_sha256: str = ""
    """Of the weights that training starts with; empty: random numbers."""
    seed: int = 0
    phantom_share: float = 0.0
    """Of the patches that come from synthetic cases, where there are any."""
    anatomy: str | None = None
    """What synthetic cases are made of while training; None: they lie in a folder."""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "network": self.network.to_json(), "patch": list(self.patch)}
