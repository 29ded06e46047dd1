"""The U-Net family: the Optimized U-Net (Futrega et al. 2021, arXiv 2110.03352), as used by the paper (arXiv
2402.07008, section 2.2), and the U-Nets of nnU-Net v2 (Isensee et al. 2021 and 2024).

Levels are numbered from 1 at full resolution to the bottom, as in the paper. By default every level has two 3x3x3
convolutions with instance norm and leaky ReLU; the way down is a stride-2 convolution, the way up a 2x2x2 transposed
one; skips are concatenated. `UNetConfig` says what differs. The outputs are logits.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from model.config import SAME, Sides, UNetConfig

LayerGroup = Literal["encoder", "decoder", "middle", "none"]
SLOPE = 0.01  # of the leaky ReLU


class ConvBlock(nn.Module):
    """Convolutions, each followed by instance norm and leaky ReLU; the first one may shrink the grid."""

    def __init__(
        self, config: UNetConfig, kernel: Sides, inputs: int, outputs: int, count: int, stride: Sides = SAME
    ) -> None:
        super().__init__()
        self.count = count
        for i in range(1, count + 1):
            conv = _convolution(config, kernel, inputs if i == 1 else outputs, outputs, stride if i == 1 else SAME)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"norm{i}", nn.InstanceNorm3d(outputs, eps=config.eps, affine=True))
        self.act = nn.LeakyReLU(SLOPE, inplace=True)
        self.drop = nn.Dropout3d(config.dropout) if config.dropout else nn.Identity()

    @property
    def layers(self) -> Iterator[tuple[nn.Conv3d, nn.InstanceNorm3d]]:
        """Each convolution with its norm."""
        return _layers(self, self.count)

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels of the input in a voxel of the output, along each axis."""
        return next(self.layers)[0].stride

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in self.layers:  # (B, C, X, Y, Z) -> (B, C', X/s, Y/s, Z/s), then the same size
            x = self.act(norm(conv(x)))
        out: Tensor = self.drop(x)
        return out


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, added to the input, which a mean and a 1x1x1 convolution fit to them.

    As BasicBlockD of nnU-Net's dynamic_network_architectures (ResNet-D of He et al. 2019, arXiv 1812.01187).
    """

    def __init__(self, config: UNetConfig, kernel: Sides, inputs: int, outputs: int, stride: Sides = SAME) -> None:
        super().__init__()
        self.conv1 = _convolution(config, kernel, inputs, outputs, stride)
        self.norm1 = nn.InstanceNorm3d(outputs, eps=config.eps, affine=True)
        self.conv2 = _convolution(config, kernel, outputs, outputs)
        self.norm2 = nn.InstanceNorm3d(outputs, eps=config.eps, affine=True)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)
        self.pool = nn.AvgPool3d(stride, stride) if stride != SAME else nn.Identity()
        self.projects = inputs != outputs
        if self.projects:
            self.project = nn.Conv3d(inputs, outputs, kernel_size=1, bias=False)
            self.project_norm = nn.InstanceNorm3d(outputs, eps=config.eps, affine=True)

    @property
    def layers(self) -> Iterator[tuple[nn.Conv3d, nn.InstanceNorm3d]]:
        """Each convolution of the main path with its norm."""
        return _layers(self, 2)

    def forward(self, x: Tensor) -> Tensor:
        main = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        skip = self.pool(x)  # (B, C, X, Y, Z) -> (B, C, X/s, Y/s, Z/s)
        if self.projects:
            skip = self.project_norm(self.project(skip))  # -> (B, C', ...)
        out: Tensor = self.act(main + skip)
        return out


class ResidualLevel(nn.Module):
    """Residual blocks in a row; the first one may shrink the grid."""

    def __init__(self, config: UNetConfig, kernel: Sides, inputs: int, outputs: int, count: int, stride: Sides) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            ResidualBlock(config, kernel, inputs, outputs, stride),
            *(ResidualBlock(config, kernel, outputs, outputs) for _ in range(count - 1)),
        )
        self.drop = nn.Dropout3d(config.dropout) if config.dropout else nn.Identity()

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels of the input in a voxel of the output, along each axis."""
        first = self.blocks[0]
        assert isinstance(first, ResidualBlock)
        return first.conv1.stride

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.blocks(x))
        return out


class UpBlock(nn.Module):
    """Enlarges the grid, joins the encoder's features of that level, and convolves."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        super().__init__()
        below, outputs = config.channels[level], config.channels[level - 1]
        stride = config.level_strides[level]
        self.up = nn.ConvTranspose3d(below, outputs, kernel_size=stride, stride=stride, bias=config.bias)
        self.block = ConvBlock(config, config.up_kernels[level - 1], 2 * outputs, outputs, config.up_counts[level - 1])

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)  # (B, C_below, X, Y, Z) -> (B, C, 2X, 2Y, 2Z)
        out: Tensor = self.block(torch.cat((x, skip), dim=1))  # (B, 2C, ...) -> (B, C, ...)
        return out


class UNet(nn.Module):
    """(B, in_channels, X, Y, Z) -> logits (B, out_channels, X, Y, Z); the sides are multiples of `config.multiples`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        inputs = (c[0] if config.residual else config.in_channels, *c[:-1])
        kind = ResidualLevel if config.residual else ConvBlock
        self.stem = (
            ConvBlock(config, config.down_kernels[0], config.in_channels, c[0], 1) if config.residual else nn.Identity()
        )
        levels = zip(config.down_kernels, inputs, c, config.down_counts, config.level_strides, strict=True)
        self.down = nn.ModuleDict({str(i): kind(config, *given) for i, given in enumerate(levels, start=1)})
        self.up = nn.ModuleDict({str(level): UpBlock(config, level) for level in range(config.levels - 1, 0, -1)})
        self.heads = nn.ModuleDict(
            {str(level): nn.Conv3d(c[level - 1], config.out_channels, kernel_size=1) for level in config.head_levels}
        )

    def features(self, x: Tensor) -> dict[int, Tensor]:
        """Decoder features of every level with a head: {level: (B, C_level, X/2^(level-1), ...)}."""
        skips: list[Tensor] = []
        x = self.stem(x)
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
        """Logits of every head for deep supervision: full resolution first, then those of the next levels."""
        features = self.features(x)
        return [self.heads[str(level)](features[level]) for level in self.config.head_levels]


def _convolution(config: UNetConfig, kernel: Sides, inputs: int, outputs: int, stride: Sides = SAME) -> nn.Conv3d:
    """A convolution that keeps the grid with stride 1."""
    x, y, z = (side // 2 for side in kernel)
    return nn.Conv3d(inputs, outputs, kernel, stride, (x, y, z), bias=config.bias)


def _layers(block: nn.Module, count: int) -> Iterator[tuple[nn.Conv3d, nn.InstanceNorm3d]]:
    for i in range(1, count + 1):
        conv, norm = block.get_submodule(f"conv{i}"), block.get_submodule(f"norm{i}")
        assert isinstance(conv, nn.Conv3d)
        yield conv, norm  # type: ignore[misc] # on a GPU another module takes the norm's place


def group_prefixes(config: UNetConfig, group: LayerGroup) -> tuple[str, ...]:
    """Parameter-name prefixes of a layer group for transfer learning (paper 2.7).

    encoder = stem and down 1..bottom; decoder = every up level and the heads; middle = the three lowest levels down
    and the three lowest up; none = nothing.
    """
    bottom = config.levels
    down = range(1, bottom + 1)
    up = range(1, bottom)
    match group:
        case "encoder":
            return ("stem.", *(f"down.{level}." for level in down))
        case "decoder":
            return (*(f"up.{level}." for level in up), "heads.")
        case "middle":
            return (*(f"down.{level}." for level in down[-3:]), *(f"up.{level}." for level in up[-3:]))
        case "none":
            return ()
