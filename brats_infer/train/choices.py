"""Every option of training: its name, type, default, help and allowed values; light to import.

A new option is one field of `TrainOptions`. The command line, the keys of recipes and the settings of a run are made
from the fields.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brats_infer.errors import UsageError


class Optimizer(StrEnum):
    """The optimiser."""

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"
    """With Nesterov momentum 0.99, as nnU-Net."""


class Schedule(StrEnum):
    """The course of the learning rate."""

    COSINE = "cosine"
    """To 0 at the last step."""
    EXPONENTIAL = "exponential"
    """By a constant factor after every epoch (paper 2.4)."""
    POLY = "poly"
    """As (1 - step / steps) ** 0.9, as nnU-Net."""


class Selection(StrEnum):
    """The score that chooses the best checkpoint: a mean over the held-out cases and their regions."""

    DICE = "dice"
    """Dice."""
    DICE_HD95 = "dice+hd95"
    """The mean of Dice and 1 - HD95 / penalty, both 0..1 (paper 2.4: Dice and HD95 of ET, TC and WT, averaged)."""
    LAST = "last"
    """The last checkpoint: scores of few held-out cases say little about other cases."""


class Targets(StrEnum):
    """The meaning of the network's output channels."""

    REGIONS = "regions"
    """WT, TC and ET; each region lies inside the one before."""
    LABELS = "labels"
    """ED, NCR and ET, which exclude each other. Inference turns them into regions."""


class Augment(StrEnum):
    """The augmentation of patches."""

    NONE = "none"
    FLIPS = "flips"
    SHAPE = "shape"
    """Flips, rotation, scaling."""
    CONTRAST = "contrast"
    """Flips, and for each modality alone: gamma, contrast, brightness, bias field, blur, low resolution, noise."""
    ALL = "all"


class Freeze(StrEnum):
    """The layers that keep their initial parameters (paper 2.7)."""

    NONE = "none"
    ENCODER = "encoder"
    MIDDLE = "middle"
    DECODER = "decoder"


LOSS_HELP = (
    "dice-bce, mse-ce-edge, dice-focal-edge or dice-focal-edge-light; or weights, such as dice=1,edge=0.05, of mse, "
    "ce, dice, focal, edge."
)
ALTERNATIVES = ((("steps",), ("epochs",)), (("hold_out",), ("folds", "fold")))
"""Pairs of option groups of which only one may be given. The first option of a group stands for the group."""
RECORDED_AS = "recorded_as"


def _option(default: Any, help: str | None = None, *, recorded_as: str | None = None, **limits: Any) -> Any:  # noqa: A002
    """A field of `TrainOptions`.

    A resumed run must have the same value, unless `recorded_as` names the entry of settings.json that records the
    effect of the option and is compared instead.
    """
    return Field(default, description=help, json_schema_extra={RECORDED_AS: recorded_as}, **limits)


class TrainOptions(BaseModel):
    """The options of a training run."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    channels: tuple[int, ...] = _option(
        (16, 32, 64, 96, 128, 160), "Feature maps of each level.", recorded_as="network"
    )
    foreground: bool = _option(True, "Brain mask as a fifth input channel.", recorded_as="network")
    deep_supervision: bool = _option(True, "Heads on levels 2 and 3 too, in training.", recorded_as="network")
    spacing: int = _option(1, "Of the network's grid, mm; coarser sees further.", recorded_as="network", ge=1)
    dropout: float = _option(0.0, "Share of feature maps left out in training.", recorded_as="network", ge=0, lt=1)
    targets: Targets = _option(Targets.REGIONS, "Nested regions or disjoint labels.", recorded_as="network")
    normalisation: str = _option(
        "zscore+rescale",
        "none, zscore, zscore+rescale or zscore+rescale+histogram; of nnU-Net: zscore-brain, zscore-box.",
    )
    clean_labels: bool = _option(False, "Take dust out of the training labels.")
    phantom_share: float = _option(0.7, "Of the patches, from --phantoms or --anatomy.", ge=0, le=1)
    anatomy: str | None = _option(None, "Make a new synthetic case for each patch: of mni152, or a folder.")
    patch: int = _option(96, "Side of the training patch, voxels of --spacing.", ge=1)
    augment: Augment = _option(Augment.ALL, "How patches are changed.")
    transplant: float = _option(0.0, "Probability that a patch gets the tumor of another case of --data.", ge=0, le=1)
    drop_contrasts: float = _option(
        0.0, "Probability that a patch lacks a contrast, each on its own; T1c and FLAIR never both.", ge=0, lt=1
    )
    batch: int = _option(1, "Patches a step.", ge=1)
    steps: int = _option(2000, "How long to train.", ge=1)
    epochs: int | None = _option(None, "The same, in epochs of one patch a training case.", recorded_as="steps", ge=1)
    validate_every: int | None = _option(None, "In steps; default: 200, or with --epochs one epoch.", ge=1)
    loss: str = _option("dice-bce", LOSS_HELP)
    optimizer: Optimizer = _option(Optimizer.ADAM)
    amsgrad: bool = _option(False, "For adam and adamw.")
    weight_decay: float = _option(0.0, ge=0)
    learning_rate: float = _option(1e-3, gt=0)
    schedule: Schedule = _option(Schedule.COSINE, "How the rate falls.")
    decay: float = _option(0.995, "Factor an epoch of --schedule exponential.", gt=0, le=1)
    warm_up: int = _option(50, "Steps over which the rate rises.", ge=0)
    ema: float = _option(0.99, "Running mean of the weights that is kept; 0: none.", ge=0, lt=1)
    select: Selection = _option(Selection.DICE, "How the best checkpoint is chosen.")
    freeze: Freeze = _option(Freeze.NONE, "Layers that keep the weights of --init.")
    seed: int = _option(0, ge=0, le=2**31)
    hold_out: tuple[str, ...] = _option((), "ID to validate on; may be given several times.", recorded_as="validation")
    skip: tuple[str, ...] = _option((), "ID to leave alone; may be given several times.", recorded_as="training")
    folds: int | None = _option(
        None, "Hold out one of K folds of the patients; 10: the paper's 90:10.", recorded_as="validation", ge=2
    )
    fold: int | Literal["all"] = _option(
        "all", "Which of --folds, from 0, or all one after the other.", recorded_as="validation"
    )


def recorded_elsewhere(name: str) -> bool:
    """Whether another entry of settings.json records the effect of the option."""
    extra = TrainOptions.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and extra[RECORDED_AS] is not None


def merged_options(*layers: Mapping[str, Any]) -> TrainOptions:
    """Merges options; a later layer wins over an earlier one. Of two alternatives only the later one counts.

    Raises UsageError, which names the option, for an unknown option, a wrong type, a value out of range, and two
    alternatives in one layer.
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
        return TrainOptions.model_validate_json(json.dumps(merged))  # in JSON, a text names a value of an enumeration
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{flag(str(first['loc'][0]))}: {first['msg']}, not {first['input']}") from error


def flag(name: str) -> str:
    """An option as the command line spells it."""
    return f"--{name.replace('_', '-')}"
