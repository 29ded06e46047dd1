"""What an import reads, and what it makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from model.config import Sides, UNetConfig
from model.source import Source


@dataclass(frozen=True)
class Wanted:
    """What the user says of a model."""

    folds: tuple[str, ...] = ()
    """Empty: all that are there, without `all` if there are others."""
    checkpoint: str = "final"
    channels: tuple[str, ...] = ()
    """The contrasts in the order of the source's channels; empty: as the source names them."""
    axes: str = "xyz"
    """Of a DynUNet, the order of its arrays' axes: `xyz` as MONAI and nibabel read, `zyx` as SimpleITK does."""
    patch: Sides = (128, 128, 128)
    """Of a DynUNet, in the order of x, y, z."""


@dataclass(frozen=True)
class Found:
    """A network that can be a member."""

    config: UNetConfig
    state: Mapping[str, Tensor]
    """float32, under our names."""
    normalisation: str
    window: Sides
    source: Source
    notes: tuple[str, ...] = ()
    """Remarks for the user, each naming a file."""
