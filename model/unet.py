"""The Optimized U-Net (Futrega et al. 2021, arXiv 2110.03352), as used by the paper (arXiv 2402.07008, section 2.2).

Levels are numbered from 1 at full resolution to the bottom, as in the paper. Every level has two 3x3x3 convolutions
with instance norm and leaky ReLU; the way down is a stride-2 convolution, the way up a 2x2x2 transposed one; skips
are concatenated. The outputs are logits of independent regions (WT, TC, ET).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from model.config import UNetConfig

LayerGroup = Literal["encoder", "decoder", "middle", "none"]


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
        """Logits of every head for deep supervision: full resolution first, each next level of half the size."""
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
