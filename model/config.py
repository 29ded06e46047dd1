"""The description of a trained network: its architecture and the preprocessing that it expects."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

PAPER_CHANNELS = (64, 96, 128, 192, 256, 384, 512)
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of one network."""

    channels: tuple[int, ...] = PAPER_CHANNELS
    """Feature maps of each level, level 1 first; their number is the depth."""
    modalities: int = 4
    regions: int = 3
    foreground: bool = True
    """Whether one more input channel holds the brain mask (Futrega's fifth channel)."""
    deep_supervision: bool = True
    """Whether levels 2 and 3 of the decoder have heads of their own, used in training only."""
    dropout: float = 0.0
    """Probability of dropping a feature map after each level's convolutions, in training only."""
    disjoint: bool = False
    """Whether the outputs are disjoint labels: each is a region without the next region inside it."""

    spacing: int = 1
    """Spacing of the network's grid in mm. Its input is averaged to that grid, its output interpolated back."""

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"channels must name at least two levels of at least one map, not {self.channels}")
        if self.modalities < 1 or self.regions < 1 or self.spacing < 1:
            raise ValueError("modalities, regions and spacing must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, not {self.dropout}")

    @property
    def levels(self) -> int:
        return len(self.channels)

    @property
    def in_channels(self) -> int:
        return self.modalities + int(self.foreground)

    @property
    def multiple(self) -> int:
        """Every side of the input must be a multiple of this."""
        return int(2 ** (self.levels - 1))

    @property
    def head_levels(self) -> tuple[int, ...]:
        """Decoder levels with a head, level 1 first; never the bottom."""
        last = 3 if self.deep_supervision else 1
        return tuple(range(1, min(last, self.levels - 1) + 1))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the network takes a grid: its sides are multiples of `multiple`, its bottom more than one voxel."""
        return all(n > 0 and n % self.multiple == 0 for n in shape) and max(shape) > self.multiple

    def to_json(self) -> dict[str, object]:
        """Plain values, for the manifest."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_json(cls, values: dict[str, object]) -> Self:
        """Inverse of `to_json`. Raises TypeError or ValueError on any other input."""
        known = dict(values)
        channels = known.pop("channels", None)
        if not isinstance(channels, list) or any(type(c) is not int for c in channels):
            raise TypeError("channels must be a list of whole numbers")
        config = cls(channels=tuple(channels), **known)  # type: ignore[arg-type]
        for option in fields(cls):
            if type(getattr(config, option.name)) is not type(option.default):
                raise TypeError(f"{option.name} must be of type {type(option.default).__name__}")
        return config


@dataclass(frozen=True)
class Member:
    """One trained network of an ensemble, as an entry of the manifest."""

    file: str
    """Name in the weights folder. Two tasks may share a file."""
    sha256: str
    task: str
    fold: int
    config: UNetConfig
    normalisation: str
    window: tuple[int, int, int]
    """The training patch and the sliding window, in voxels of the network's grid."""
    trained_on: str
    """Data, credits and command, as text for readers."""
    licence: str
    scores: dict[str, Any] = field(default_factory=dict)
    """Measured scores, with the cases that they come from."""
    absent_contrasts: bool = False
    """Whether it was trained with contrasts left out: their channels were 0."""
    histogram_sha256: str = ""
    """sha256 of `histogram_file`; empty for a member without histogram matching."""

    @property
    def histogram_file(self) -> str:
        """Name of the file with the histogram-matching reference, beside the weights."""
        return f"{self.file.removesuffix('.safetensors')}.histogram.safetensors"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        return {**asdict(self), "config": self.config.to_json(), "window": list(self.window)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Member":
        """Inverse of `to_json`. Raises TypeError, ValueError or KeyError on any other input."""
        member = cls(**{**values, "config": UNetConfig.from_json(values["config"]), "window": tuple(values["window"])})
        texts = (member.file, member.sha256, member.task, member.normalisation, member.trained_on, member.licence)
        if not all(isinstance(text, str) for text in (*texts, member.histogram_sha256)) or not isinstance(
            member.scores, dict
        ):
            raise TypeError("a text or the scores of a member are of another type")
        if type(member.absent_contrasts) is not bool:
            raise TypeError("absent_contrasts must be true or false")
        if any(type(n) is not int for n in (member.fold, *member.window)):
            raise TypeError("fold and window must be whole numbers")
        if not FILE_NAME.fullmatch(member.file):
            raise ValueError(f"{member.file!r} is no name of a .safetensors file")
        if len(member.window) != 3 or not member.config.fits(member.window):
            raise ValueError(f"the window {member.window} does not fit {member.config.levels} levels")
        return member
