"""Scanner: ideal contrasts -> images as a hospital sends them: bias field, thick slices, motion, noise, masks."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from brats_infer.phantom.fields import Draw, blur, smooth_noise
from brats_infer.phantom.settings import Scanner

OFFSET = 0.4  # lifts the darkest tissue above 0, since magnitude images are positive


def scan(draw: Draw, images: Tensor, brain: Tensor, scanner: Scanner) -> Tensor:
    """(C, X, Y, Z) ideal images and the brain (X, Y, Z) -> positive images with background exactly 0.

    Air may hold noise instead of 0.
    """
    thick = draw.chance(scanner.thick_share)
    poor = draw.uniform(*scanner.noise)
    axis = 2 if draw.chance(0.8) else int(draw.rng.integers(3))
    out = []
    for image in images + OFFSET:
        x = image.clamp_min(0.02)
        if draw.chance(0.3):
            x = x.pow(draw.uniform(0.75, 1.35))
        if thick and draw.chance(0.8):
            x = thick_slices(x, axis, draw.uniform(*scanner.slice_mm))
        elif draw.chance(0.3):
            x = blur(x[None], draw.uniform(0.4, 1.0))[0]
        if draw.chance(0.1 * poor):
            x = ghosts(draw, x)
        if draw.chance(0.06):
            x = ringing(x, draw.uniform(0.6, 0.9))
        bias = smooth_noise(draw, tuple(x.shape), draw.uniform(60, 150))[0] * draw.uniform(0.01, 0.09)
        out.append(rician(draw, x * bias.exp(), draw.uniform(0.005, 0.035) * poor))
    if scanner.air_share and draw.chance(scanner.air_share):
        return torch.stack(out)
    return torch.stack(out) * masks(draw, brain, len(out))


def thick_slices(x: Tensor, axis: int, thickness: float) -> Tensor:
    """(X, Y, Z): means over slices of `thickness` voxels, interpolated back."""
    shape = list(x.shape)
    shape[axis] = max(2, round(shape[axis] / thickness))
    slices = functional.interpolate(x[None, None], size=shape, mode="area")
    out: Tensor = functional.interpolate(slices, size=x.shape, mode="trilinear", align_corners=False)[0, 0]
    return out


def ghosts(draw: Draw, x: Tensor) -> Tensor:
    """(X, Y, Z) with faint copies, shifted along one axis: the ghosts of motion during the scan."""
    axis, strength = int(draw.rng.integers(3)), draw.uniform(0.02, 0.10)
    shift = int(draw.rng.integers(4, max(5, x.shape[axis] // 3)))
    return x * (1 - strength) + strength * 0.5 * (x.roll(shift, axis) + x.roll(-shift, axis))


def ringing(x: Tensor, kept: float) -> Tensor:
    """(X, Y, Z) without its highest in-plane frequencies: Gibbs ringing at edges."""
    spectrum = torch.fft.rfft2(x, dim=(0, 1))
    fx = torch.fft.fftfreq(x.shape[0], device=x.device).abs()[:, None, None]
    fy = torch.fft.rfftfreq(x.shape[1], device=x.device).abs()[None, :, None]
    out: Tensor = torch.fft.irfft2(spectrum * ((fx <= kept / 2) & (fy <= kept / 2)), s=list(x.shape[:2]), dim=(0, 1))
    return out


def rician(draw: Draw, x: Tensor, sigma: float) -> Tensor:
    """(X, Y, Z): the magnitude of a signal with Gaussian noise in both of its parts."""
    shape = tuple(x.shape)
    return torch.hypot(x + sigma * draw.normal(shape), sigma * draw.normal(shape))


def masks(draw: Draw, brain: Tensor, count: int) -> Tensor:
    """(count, X, Y, Z) float, 0 or 1: the brain masks of skull stripping, slightly different for each contrast."""
    inside = blur(brain.float()[None], 1.5)[0]
    shared = smooth_noise(draw, tuple(brain.shape), 25)[0]
    level = draw.uniform(0.5, 0.9)
    same = draw.chance(0.8)
    out = []
    for _ in range(count):
        own = 0.0 if same else draw.uniform(-0.04, 0.04)
        out.append((inside + 0.06 * shared > level + own) & brain)
    return torch.stack(out).float()


def to_integers(draw: Draw, images: Tensor) -> Tensor:
    """(C, X, Y, Z) int16: each contrast on its own scale, up to 32767. Background is 0, the brain is above 0."""
    out = []
    for image in images:
        top = math.exp(draw.uniform(math.log(150), math.log(32000)))
        scaled = (image / image.max().clamp_min(1e-6) * top).round().clamp(1, 32767)
        out.append(torch.where(image > 0, scaled, 0))
    return torch.stack(out).to(torch.int16)
