"""The options of training, as the command line and the recipes spell them; light to import."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brats_infer.errors import UsageError
from brats_infer.train.choices import Augment, Freeze, Optimizer, Schedule, Selection, Targets

LOSS_HELP = (
    "dice-bce, mse-ce-edge, dice-focal-edge or dice-focal-edge-light; or weights, such as dice=1,edge=0.05, of mse, "
    "ce, dice, focal, edge."
)
ALTERNATIVES = ((("steps",), ("epochs",)), (("hold_out",), ("folds", "fold")))
"""Groups of options of which only one can be meant, known by the first."""


class TrainOptions(BaseModel):
    """What can be chosen about a training run, wherever it takes place."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    channels: tuple[int, ...] = Field((16, 32, 64, 96, 128, 160), description="Feature maps of each level.")
    foreground: bool = Field(True, description="Brain mask as a fifth input channel.")
    deep_supervision: bool = Field(True, description="Heads on levels 2 and 3 too, in training.")
    spacing: int = Field(1, ge=1, description="Of the network's grid, mm; coarser sees further.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of feature maps left out in training.")
    targets: Targets = Field(Targets.REGIONS, description="Nested regions or disjoint labels.")
    normalisation: str = Field(
        "zscore+rescale", description="none, zscore, zscore+rescale or zscore+rescale+histogram."
    )
    clean_labels: bool = Field(False, description="Take dust out of the training labels.")
    phantom_share: float = Field(0.7, ge=0, le=1, description="Of the patches, from --phantoms or --anatomy.")
    anatomy: str | None = Field(None, description="Make a new synthetic case for each patch: of mni152, or a folder.")
    patch: int = Field(96, ge=1, description="Side of the training patch, voxels of --spacing.")
    augment: Augment = Field(Augment.ALL, description="How patches are changed.")
    batch: int = Field(1, ge=1, description="Patches a step.")
    steps: int = Field(2000, ge=1, description="How long to train.")
    epochs: int | None = Field(None, ge=1, description="The same, in epochs of one patch a training case.")
    validate_every: int | None = Field(None, ge=1, description="In steps; default: 200, or with --epochs one epoch.")
    loss: str = Field("dice-bce", description=LOSS_HELP)
    optimizer: Optimizer = Optimizer.ADAM
    amsgrad: bool = Field(False, description="For adam and adamw.")
    weight_decay: float = Field(0.0, ge=0)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Schedule = Field(Schedule.COSINE, description="How the rate falls.")
    decay: float = Field(0.995, gt=0, le=1, description="Factor an epoch of --schedule exponential.")
    warm_up: int = Field(50, ge=0, description="Steps over which the rate rises.")
    ema: float = Field(0.99, ge=0, lt=1, description="Running mean of the weights that is kept; 0: none.")
    select: Selection = Field(Selection.DICE, description="How the best checkpoint is chosen.")
    freeze: Freeze = Field(Freeze.NONE, description="Layers that keep the weights of --init.")
    seed: int = Field(0, ge=0, le=2**31)
    hold_out: tuple[str, ...] = Field((), description="ID to validate on; may be given several times.")
    skip: tuple[str, ...] = Field((), description="ID to leave alone; may be given several times.")
    folds: int | None = Field(None, ge=2, description="Hold out one of K folds of the patients; 10: the paper's 90:10.")
    fold: int | Literal["all"] = Field("all", description="Which of --folds, from 0, or all one after the other.")


def merged_options(*layers: Mapping[str, Any]) -> TrainOptions:
    """Options from several places, the later ones winning; of two alternatives the later one alone counts.

    Raises UsageError, naming the option, for what is unknown, of another type or out of range, and for both
    alternatives in one place.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for one, other in ALTERNATIVES:
            if one[0] in layer and other[0] in layer:
                raise UsageError(f"{flag(one[0])} and {flag(other[0])} exclude each other: give one of them")
            dropped = other if one[0] in layer else one if other[0] in layer else ()
            merged = {name: value for name, value in merged.items() if name not in dropped}
        merged |= layer
    try:
        return TrainOptions.model_validate_json(json.dumps(merged))  # as JSON, texts may name enumerated values
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{flag(str(first['loc'][0]))}: {first['msg']}, not {first['input']}") from error


def flag(name: str) -> str:
    """The command line's spelling of an option."""
    return f"--{name.replace('_', '-')}"
