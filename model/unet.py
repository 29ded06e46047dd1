"""The Optimized U-Net (Futrega et al. 2021, arXiv 2110.03352), as used by the paper (arXiv 2402.07008, section 2.2).

Levels are numbered from 1 at full resolution to the bottom, as in the paper. Every level has two 3x3x3 convolutions
with instance norm and leaky ReLU; the way down is a stride-2 convolution, the way up a 2x2x2 transposed one; skips
are concatenated. The outputs are logits of independent regions (WT, TC, ET).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self

import torch
from torch import Tensor, nn

LayerGroup = Literal["encoder", "decoder", "middle", "none"]
PAPER_CHANNELS = (64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class UNetConfig:
    """What tells one member of the family from another."""

    channels: tuple[int, ...] = PAPER_CHANNELS
    """Feature maps of each level, level 1 first; their number is the depth."""
    modalities: int = 4
    regions: int = 3
    foreground: bool = True
    """Whether one more input channel holds the brain mask (Futrega's fifth channel)."""
    deep_supervision: bool = True
    """Whether levels 2 and 3 of the decoder have heads of their own, used in training only."""
    dropout: float = 0.0
    """Probability with which a feature map is left out behind each level's convolutions, in training only."""
    disjoint: bool = False
    """Whether the outputs are disjoint labels, each the region of that place without the next one inside it."""

    spacing: int = 1
    """Of the grid that the network works on, in mm: voxels are averaged before it, and its output interpolated back."""

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
        """Whether a grid can pass: multiples of `multiple`, and at the bottom more than one voxel to normalise over."""
        return all(n > 0 and n % self.multiple == 0 for n in shape) and max(shape) > self.multiple

    def to_json(self) -> dict[str, object]:
        """Plain values, for the manifest."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_json(cls, values: dict[str, object]) -> Self:
        """Inverse of `to_json`. Raises TypeError or ValueError on anything that is not such a configuration."""
        known = dict(values)
        channels = known.pop("channels", None)
        if not isinstance(channels, list) or any(type(c) is not int for c in channels):
            raise TypeError("channels must be a list of whole numbers")
        config = cls(channels=tuple(channels), **known)  # type: ignore[arg-type]
        for option in fields(cls):
            if type(getattr(config, option.name)) is not type(option.default):
                raise TypeError(f"{option.name} must be of type {type(option.default).__name__}")
        return config


class ConvBlock(nn.Module):
    """Two convolutions, each followed by instance norm and leaky ReLU; the first one may halve the grid."""

    def __init__(self, inputs: int, outputs: int, dropout: float, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm3d(outputs, affine=True)
        self.conv2 = nn.Conv3d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm3d(outputs, affine=True)
        self.act = nn.LeakyReLU(0.01, inplace=True)
        self.drop = nn.Dropout3d(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm1(self.conv1(x)))  # (B, C, X, Y, Z) -> (B, C', X/s, Y/s, Z/s)
        out: Tensor = self.drop(self.act(self.norm2(self.conv2(x))))
        return out


class UpBlock(nn.Module):
    """Doubles the grid, joins the encoder's features of that level, and convolves twice."""

    def __init__(self, below: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(below, outputs, kernel_size=2, stride=2, bias=False)
        self.block = ConvBlock(2 * outputs, outputs, dropout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)  # (B, C_below, X, Y, Z) -> (B, C, 2X, 2Y, 2Z)
        out: Tensor = self.block(torch.cat((x, skip), dim=1))  # (B, 2C, ...) -> (B, C, ...)
        return out


class UNet(nn.Module):
    """(B, in_channels, X, Y, Z) -> logits (B, regions, X, Y, Z); X, Y and Z are multiples of `config.multiple`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        inputs = (config.in_channels, *c[:-1])
        self.down = nn.ModuleDict(
            {
                str(level): ConvBlock(inputs[level - 1], c[level - 1], config.dropout, 1 if level == 1 else 2)
                for level in range(1, config.levels + 1)
            }
        )
        self.up = nn.ModuleDict(
            {str(level): UpBlock(c[level], c[level - 1], config.dropout) for level in range(config.levels - 1, 0, -1)}
        )
        self.heads = nn.ModuleDict(
            {str(level): nn.Conv3d(c[level - 1], config.regions, kernel_size=1) for level in config.head_levels}
        )

    def features(self, x: Tensor) -> dict[int, Tensor]:
        """Decoder features of every level with a head: {level: (B, C_level, X/2^(level-1), ...)}."""
        skips: list[Tensor] = []
        for level in range(1, self.config.levels + 1):
            x = self.down[str(level)](x)
            skips.append(x)
        skips.pop()  # the bottom is x itself
        wanted: dict[int, Tensor] = {}
        for level in range(self.config.levels - 1, 0, -1):
            x = self.up[str(level)](x, skips.pop())
            if level in self.config.head_levels:
                wanted[level] = x
        return wanted

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.heads["1"](self.features(x)[1])
        return out

    def forward_heads(self, x: Tensor) -> list[Tensor]:
        """Logits of every head for deep supervision, full resolution first, each half as large as the one before."""
        features = self.features(x)
        return [self.heads[str(level)](features[level]) for level in self.config.head_levels]


def group_prefixes(config: UNetConfig, group: LayerGroup) -> tuple[str, ...]:
    """Parameter-name prefixes of a layer group for transfer learning (paper 2.7).

    encoder = down 1..bottom; decoder = every up level and the heads; middle = the three lowest levels down and the
    three lowest up; none = nothing.
    """
    bottom = config.levels
    down = range(1, bottom + 1)
    up = range(1, bottom)
    match group:
        case "encoder":
            return tuple(f"down.{level}." for level in down)
        case "decoder":
            return (*(f"up.{level}." for level in up), "heads.")
        case "middle":
            return (*(f"down.{level}." for level in down[-3:]), *(f"up.{level}." for level in up[-3:]))
        case "none":
            return ()
