"""What a user can choose about training; light to import, so that the command line starts at once."""

from enum import StrEnum


class Optimizer(StrEnum):
    """How a gradient becomes a step."""

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"
    """With Nesterov momentum 0.99, as nnU-Net."""


class Schedule(StrEnum):
    """How the learning rate falls."""

    COSINE = "cosine"
    """To 0 at the last step."""
    EXPONENTIAL = "exponential"
    """By a constant factor after every epoch (paper 2.4)."""
    POLY = "poly"
    """As (1 - step / steps) ** 0.9, as nnU-Net."""


class Selection(StrEnum):
    """By what the best checkpoint is known; means over the held-out cases and their regions."""

    DICE = "dice"
    """Dice."""
    DICE_HD95 = "dice+hd95"
    """The mean of Dice and 1 - HD95 / penalty, both 0..1 (paper 2.4: Dice and HD95 of ET, TC and WT, averaged)."""
    LAST = "last"
    """The last one: of few held-out cases, the scores tell little about other cases."""


class Targets(StrEnum):
    """What the channels of the network stand for."""

    REGIONS = "regions"
    """WT, TC and ET, each inside the one before."""
    LABELS = "labels"
    """ED, NCR and ET, which exclude each other; at inference they become regions again."""


class Augment(StrEnum):
    """How patches are changed."""

    NONE = "none"
    FLIPS = "flips"
    SHAPE = "shape"
    """Flips, rotation, scaling."""
    CONTRAST = "contrast"
    """Flips, and each modality on its own: gamma, contrast, brightness, bias field, blur, low resolution, noise."""
    ALL = "all"


class Freeze(StrEnum):
    """Which layers keep the parameters they start with (paper 2.7)."""

    NONE = "none"
    ENCODER = "encoder"
    MIDDLE = "middle"
    DECODER = "decoder"
