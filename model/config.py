"""The description of a trained network: its architecture and the preprocessing that it expects."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from model.source import Source

PAPER_CHANNELS = (64, 96, 128, 192, 256, 384, 512)
CUBE, HALVED, SAME = (3, 3, 3), (2, 2, 2), (1, 1, 1)
Sides = tuple[int, int, int]
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

    kernels: tuple[Sides, ...] = ()
    """Sides of the convolutions of each level; empty: 3x3x3 in all."""
    strides: tuple[Sides, ...] = ()
    """Voxels of the level above in a voxel of each level; empty: 1 at level 1, else 2 along each axis."""
    convolutions: tuple[int, ...] = ()
    """Convolutions of each level on the way down, or its residual blocks; empty: 2 in all."""
    decoder_convolutions: tuple[int, ...] = ()
    """Convolutions of each level on the way up, level 1 first; empty: 2 in all."""
    decoder_kernels: tuple[Sides, ...] = ()
    """Sides of the convolutions of each level on the way up, level 1 first; empty: those of the way down."""
    residual: bool = False
    """Whether the way down is a stem and residual blocks (ResidualEncoderUNet of nnU-Net)."""
    bias: bool = False
    """Whether convolutions and transposed convolutions have a bias; heads always have one."""
    eps: float = 1e-5
    """What the instance norms add to the variance."""
    supervised: int = 3
    """Levels with a head under deep supervision."""
    background: bool = False
    """Whether the first output is the background, and a softmax makes the outputs probabilities."""
    logits: bool = False
    """Whether windows and mirror images are averaged as logits, as nnU-Net does; else as probabilities."""

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"channels must name at least two levels of at least one map, not {self.channels}")
        if min(self.modalities, self.regions, self.spacing, self.supervised) < 1:
            raise ValueError("modalities, regions, spacing and supervised must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, not {self.dropout}")
        if not 0 < self.eps < 1:
            raise ValueError(f"eps must lie between 0 and 1, not {self.eps}")
        if self.background and (self.disjoint or not self.logits):
            raise ValueError("background is for averages of logits, and without disjoint")
        self._check_levels()

    def _check_levels(self) -> None:
        """Raises ValueError for entries of levels that make no network."""
        expected = {"kernels": self.levels, "strides": self.levels, "convolutions": self.levels}
        expected |= dict.fromkeys(("decoder_convolutions", "decoder_kernels"), self.levels - 1)
        for name, count in expected.items():
            entries = getattr(self, name)
            if entries and len(entries) != count:
                raise ValueError(f"{name} has {len(entries)} entries, not {count}")
        if any(n % 2 == 0 or n < 1 for kernel in (*self.kernels, *self.decoder_kernels) for n in kernel):
            raise ValueError(f"kernels must have odd sides, not {self.kernels} and {self.decoder_kernels}")
        if any(n < 1 for stride in self.strides for n in stride) or min(self.down_counts + self.up_counts) < 1:
            raise ValueError("strides and convolutions must be at least 1")
        if self.strides and self.strides[0] != SAME:
            raise ValueError(f"level 1 must have the stride {SAME}, not {self.strides[0]}")

    @property
    def levels(self) -> int:
        return len(self.channels)

    @property
    def in_channels(self) -> int:
        return self.modalities + int(self.foreground)

    @property
    def out_channels(self) -> int:
        return self.regions + int(self.background)

    @property
    def down_kernels(self) -> tuple[Sides, ...]:
        """Sides of the convolutions of each level on the way down, level 1 first."""
        return self.kernels or (CUBE,) * self.levels

    @property
    def up_kernels(self) -> tuple[Sides, ...]:
        """Sides of the convolutions of each level on the way up, level 1 first."""
        return self.decoder_kernels or self.down_kernels[:-1]

    @property
    def level_strides(self) -> tuple[Sides, ...]:
        """Voxels of the level above in a voxel of each level, level 1 first."""
        return self.strides or (SAME, *(HALVED,) * (self.levels - 1))

    @property
    def down_counts(self) -> tuple[int, ...]:
        """Convolutions, or residual blocks, of each level on the way down, level 1 first."""
        return self.convolutions or (2,) * self.levels

    @property
    def up_counts(self) -> tuple[int, ...]:
        """Convolutions of each level on the way up, level 1 first."""
        return self.decoder_convolutions or (2,) * (self.levels - 1)

    @property
    def multiples(self) -> Sides:
        """Each side of the input must be a multiple of its own."""
        x, y, z = (math.prod(sides) for sides in zip(*self.level_strides, strict=True))
        return x, y, z

    @property
    def multiple(self) -> int:
        """A cube whose side is a multiple of this fits."""
        return math.lcm(*self.multiples)

    @property
    def head_levels(self) -> tuple[int, ...]:
        """Decoder levels with a head, level 1 first; never the bottom."""
        last = self.supervised if self.deep_supervision else 1
        return tuple(range(1, min(last, self.levels - 1) + 1))

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether the network takes a grid: its sides are multiples of `multiples`, its bottom more than one voxel."""
        pairs = list(zip(shape, self.multiples, strict=True))
        return all(n > 0 and n % multiple == 0 for n, multiple in pairs) and any(n > multiple for n, multiple in pairs)

    def to_json(self) -> dict[str, object]:
        """Plain values, for the manifest. Fields after `spacing` are left out where they have their default."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        names = [option.name for option in fields(self)]
        later = {option.name for option in fields(self)[names.index("spacing") + 1 :]}
        defaults = {option.name: _plain(option.default) for option in fields(self)}
        return {name: value for name, value in values.items() if name not in later or value != defaults[name]}

    @classmethod
    def from_json(cls, values: dict[str, object]) -> Self:
        """Inverse of `to_json`. Raises TypeError or ValueError on any other input."""
        known = {name: _whole_numbers(name, value) for name, value in values.items()}
        if "channels" not in known:
            raise TypeError("channels must be a list of whole numbers")
        config = cls(**known)  # type: ignore[arg-type]
        for option in fields(cls):
            if type(getattr(config, option.name)) is not type(option.default):
                raise TypeError(f"{option.name} must be of type {type(option.default).__name__}")
        return config


def _plain(value: Any) -> Any:
    """Tuples as lists."""
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _whole_numbers(name: str, value: object) -> object:
    """Lists of whole numbers, or of three whole numbers each, as tuples. Raises TypeError for other lists."""
    if not isinstance(value, list):
        return value
    if name in ("kernels", "strides", "decoder_kernels"):
        if any(not isinstance(each, list) or len(each) != 3 for each in value):
            raise TypeError(f"{name} must be a list of three whole numbers for each level")
        return tuple(_whole_numbers("", each) for each in value)
    if any(type(n) is not int for n in value):
        raise TypeError(f"{name} must be a list of whole numbers")
    return tuple(value)


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
    source: Source | None = None
    """The origin of an imported member."""

    @property
    def histogram_file(self) -> str:
        """Name of the file with the histogram-matching reference, beside the weights."""
        return f"{self.file.removesuffix('.safetensors')}.histogram.safetensors"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        values = {**asdict(self), "config": self.config.to_json(), "window": list(self.window)}
        del values["source"]
        return values | ({"source": self.source.to_json()} if self.source else {})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Member":
        """Inverse of `to_json`. Raises TypeError, ValueError or KeyError on any other input."""
        source = Source.from_json(values["source"]) if "source" in values else None
        parts = {"config": UNetConfig.from_json(values["config"]), "window": tuple(values["window"]), "source": source}
        member = cls(**{**values, **parts})
        texts = (member.file, member.sha256, member.task, member.normalisation, member.trained_on, member.licence)
        if not all(isinstance(text, str) for text in (*texts, member.histogram_sha256)) or not isinstance(
            member.scores, dict
        ):
            raise TypeError("a text or the scores of a member are of another type")
        if type(member.absent_contrasts) is not bool:
            raise TypeError("absent_contrasts must be true or false")
        if member.config.logits != (source is not None):
            raise ValueError("logits are averaged for imported members alone")
        if any(type(n) is not int for n in (member.fold, *member.window)):
            raise TypeError("fold and window must be whole numbers")
        if not FILE_NAME.fullmatch(member.file):
            raise ValueError(f"{member.file!r} is no name of a .safetensors file")
        if len(member.window) != 3 or not member.config.fits(member.window):
            raise ValueError(f"the window {member.window} does not fit {member.config.levels} levels")
        return member
