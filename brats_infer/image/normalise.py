"""Intensities for the network: each modality over its own brain (paper 2.1, Table 1)."""

import math
from collections.abc import Iterable
from enum import StrEnum

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.image.voxels import bounding_box, filled

PERCENTILES = (2.0, 98.0)
HISTOGRAM_LEVELS = 1024
HISTOGRAM_MATCH_POINTS = 32
SAFE_SQUARES = (1e-12, 1e24)  # mean squares that float32 can sum
LEAST_DEVIATION = 1e-8  # of nnU-Net
SAFE_SHARE = 1e-4  # least share of the variance in the mean square


class Normalisation(StrEnum):
    """The four variants of the paper's Table 1, and the two of nnU-Net v2."""

    NONE = "none"
    ZSCORE = "zscore"
    RESCALE = "zscore+rescale"
    HISTOGRAM = "zscore+rescale+histogram"
    ZSCORE_BRAIN = "zscore-brain"
    """nnU-Net with `use_mask_for_norm`."""
    ZSCORE_BOX = "zscore-box"
    """nnU-Net without it."""


def normalise(
    images: NDArray[np.float32],
    variant: Normalisation,
    reference: NDArray[np.float32] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(4, X, Y, Z) raw -> normalised, each modality over its own brain voxels (non-zero); background stays exactly 0.

    `none`: unchanged. `zscore`: mean 0, standard deviation 1. `zscore+rescale`: the 2nd to 98th percentile becomes
    0..1, clipped; the rescaling cancels a z-score, so none is computed. `+histogram`: then matched to `reference`
    (4, N), the sorted intensities of each modality (paper 2.1).
    `zscore-brain`: mean 0 and standard deviation 1 in the union of the modalities' brains, with its cavities.
    `zscore-box`: the same in the box around that union, so background is not 0 there.
    Writes into `out`, which may be `images`, or into a new array. Raises ValueError without a needed reference.
    """
    if variant == Normalisation.HISTOGRAM and reference is None:
        raise ValueError("histogram matching needs a reference")
    out = np.empty_like(images) if out is None else out
    if variant == Normalisation.NONE:
        out[:] = images
        return out
    if variant in (Normalisation.ZSCORE_BRAIN, Normalisation.ZSCORE_BOX):
        return _zscore_of_all(images, variant, out)
    for channel, image in enumerate(images):
        if variant == Normalisation.ZSCORE:
            _zscore(image, out[channel])
            continue
        mask = image != 0
        voxels = image[mask]
        out[channel] = 0
        if not len(voxels):
            continue
        voxels = _rescale(voxels)
        if variant == Normalisation.HISTOGRAM:
            assert reference is not None
            voxels = _match(voxels, reference[channel])
        out[channel][mask] = voxels
    return out


def network_input(
    images: NDArray[np.float32],
    brain: NDArray[np.bool_],
    normalisation: Normalisation,
    reference: NDArray[np.float32] | None,
    foreground: bool,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(4, X, Y, Z) raw -> the network's channels: the normalised images, and with `foreground` the brain mask.

    Writes into `out` if it is given, else into a new array.
    """
    channels = np.empty((len(images) + foreground, *brain.shape), np.float32) if out is None else out
    normalise(images, normalisation, reference, out=channels[: len(images)])
    if foreground:
        channels[-1] = brain
    return channels


def histogram_reference(cases: Iterable[NDArray[np.float32]], samples: int = 4096) -> NDArray[np.float32]:
    """(4, samples) sorted intensities: the mean quantiles of rescaled brain voxels over cases (4, X, Y, Z)."""
    at = np.linspace(0.0, 1.0, samples)
    quantiles = [[np.quantile(_rescale(image[image != 0]), at) for image in case] for case in cases]
    return np.asarray(np.mean(quantiles, axis=0, dtype=np.float64), np.float32)


def _zscore(image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Writes (X, Y, Z) with the non-zero voxels at mean 0 and standard deviation 1.

    Background is 0, so sums over the volume are sums over the brain: over rows in float32, then in float64.
    If float32 cannot hold the squares, or the variance is tiny beside their mean, all sums are in float64.
    """
    mask = image != 0
    count = np.count_nonzero(mask) or 1
    with np.errstate(over="ignore", invalid="ignore"):
        mean = image.sum(axis=2).sum(dtype=np.float64) / count
        squares = float(np.einsum("xyz,xyz->xy", image, image).sum(dtype=np.float64)) / count
        variance = squares - mean**2
    if not (SAFE_SQUARES[0] < squares < SAFE_SQUARES[1] and variance > SAFE_SHARE * squares):
        voxels = image[mask].astype(np.float64)
        voxels -= voxels.mean() if len(voxels) else 0.0
        out[:] = 0
        out[mask] = voxels / ((voxels.std() if len(voxels) else 0.0) or 1.0)
        return
    deviation = math.sqrt(variance)
    np.subtract(image, np.float32(mean), out=out)
    out *= mask
    out /= np.float32(deviation)


def _zscore_of_all(
    images: NDArray[np.float32], variant: Normalisation, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """As ZScoreNormalization of nnU-Net, over the same voxels of each modality."""
    brain = (images != 0).any(axis=0)
    box = bounding_box(brain)
    inside = filled(brain)[box] if variant == Normalisation.ZSCORE_BRAIN else np.ones_like(brain[box])
    for image, target in zip(images, out, strict=True):
        voxels = image[box][inside].astype(np.float64)
        target[:] = 0
        if len(voxels):
            target[box][inside] = (voxels - voxels.mean()) / max(voxels.std(), LEAST_DEVIATION)
    return out


def _rescale(voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(voxels, PERCENTILES)
    if high <= low:  # nearly all voxels share one value: take minimum and maximum
        low, high = float(voxels.min()), float(voxels.max())
    stretched = (voxels - np.float32(low)) / np.float32(high - low or 1.0)
    return np.asarray(np.clip(stretched, 0, 1), np.float32)


def _match(voxels: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
    matched = sitk.HistogramMatching(
        sitk.GetImageFromArray(voxels[np.newaxis]),
        sitk.GetImageFromArray(reference[np.newaxis]),
        HISTOGRAM_LEVELS,
        HISTOGRAM_MATCH_POINTS,
        thresholdAtMeanIntensity=False,
    )
    return np.asarray(sitk.GetArrayFromImage(matched)[0], np.float32)
