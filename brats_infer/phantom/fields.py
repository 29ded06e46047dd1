"""Random numbers and fields, smoothing and warping of (X, Y, Z) tensors."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional


@dataclass
class Draw:
    """The random generators of one case: numbers from numpy, fields from torch on one device."""

    rng: np.random.Generator
    generator: torch.Generator

    @classmethod
    def of_seed(cls, seed: int, device: torch.device) -> "Draw":
        return cls(np.random.default_rng(seed), torch.Generator(device).manual_seed(seed))

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)


def smooth_noise(draw: Draw, shape: tuple[int, ...], grain: float, maps: int = 1) -> Tensor:
    """(maps, X, Y, Z) of expected mean 0 and variance 1; its bumps are about `grain` voxels apart."""
    coarse = [max(2, round(n / grain) + 1) for n in shape]
    noise = functional.interpolate(draw.normal((1, maps, *coarse)), size=shape, mode="trilinear", align_corners=True)[0]
    return noise.mul_(1.5**1.5)  # linear interpolation leaves 2/3 of the variance along each axis


def blur(x: Tensor, sigma: float | tuple[float, float, float]) -> Tensor:
    """(C, X, Y, Z) smoothed by a Gaussian of `sigma` voxels along each axis; edges are repeated."""
    sigmas = (sigma,) * 3 if isinstance(sigma, float | int) else sigma
    for axis, s in enumerate(sigmas):
        if s < 0.1:
            continue
        reach = max(1, int(np.ceil(2.5 * s)))
        kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * s * s))
        kernel = kernel / kernel.sum()
        n = x.shape[axis + 1]
        first, last = x.narrow(axis + 1, 0, 1), x.narrow(axis + 1, n - 1, 1)
        padded = torch.cat([first] * reach + [x] + [last] * reach, dim=axis + 1)
        x = torch.zeros_like(x)
        for tap, weight in enumerate(kernel.tolist()):  # faster than conv3d for so few channels
            x.add_(padded.narrow(axis + 1, tap, n), alpha=weight)
    return x


def dilated(mask: Tensor, reach: int) -> Tensor:
    """(X, Y, Z) bool: the voxels at most `reach` voxels away from the mask along each axis."""
    x = mask.float()[None, None]
    for axis in range(3):
        size, pad = [1, 1, 1], [0, 0, 0]
        size[axis], pad[axis] = 2 * reach + 1, reach
        x = functional.max_pool3d(x, size, stride=1, padding=pad)
    return x[0, 0] > 0


def grid_of(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """(3, X, Y, Z): the coordinates of every voxel, in voxels."""
    return torch.stack(
        torch.meshgrid(*[torch.arange(n, device=device, dtype=torch.float32) for n in shape], indexing="ij")
    )


def sample(x: Tensor, at: Tensor, mode: str = "nearest") -> Tensor:
    """(C, X', Y', Z'): x (C, X, Y, Z) at the points `at` (3, X', Y', Z'), in voxels; 0 outside of x."""
    sizes = torch.tensor(x.shape[1:], device=x.device, dtype=torch.float32).reshape(3, 1, 1, 1)
    unit = (2 * at + 1) / sizes - 1
    grid = unit.flip(0).permute(1, 2, 3, 0)[None]  # grid_sample wants z, y, x
    return functional.grid_sample(x[None].float(), grid, mode=mode, align_corners=False)[0]


def random_affine(draw: Draw, rotation: float, zoom: tuple[float, float], shear: float) -> NDArray[np.float64]:
    """(3, 3): rotated by up to `rotation` radians, zoomed, sheared, and half of the time flipped left to right."""
    matrix = np.diag(draw.rng.uniform(*zoom, size=3)) + draw.rng.uniform(-shear, shear, (3, 3)) * (1 - np.eye(3))
    matrix = matrix @ Rotation.from_euler("XYZ", draw.rng.uniform(-rotation, rotation, size=3)).as_matrix()
    if draw.chance(0.5):
        matrix = np.diag([-1.0, 1.0, 1.0]) @ matrix
    return matrix
