"""A simple case for demos and tests: an ellipsoid brain with folds, ventricles and one tumor."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.tasks import ED, ET, GRID_SHAPE, MODALITIES, NCR

CSF, GREY, WHITE = 4, 5, 6
MEANS = {  # of each tissue in t1n, t1c, t2w and t2f; 1 is the brightest
    CSF: (0.20, 0.20, 0.95, 0.15),
    GREY: (0.50, 0.52, 0.60, 0.55),
    WHITE: (0.70, 0.68, 0.42, 0.42),
    NCR: (0.30, 0.32, 0.80, 0.60),
    ED: (0.45, 0.45, 0.80, 0.95),
    ET: (0.50, 1.00, 0.65, 0.75),
}
SCALE = 1000.0
MIDDLE = 0.4  # of the core's radius


def ellipsoid_case(
    seed: int, shape: tuple[int, int, int] = GRID_SHAPE, watery: int | None = None
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """(4, X, Y, Z) int16 images with background 0, and the tumor's parts (X, Y, Z). Same seed, same case.

    `watery` is a part of fluid in the middle of the tumor.
    """
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij"))
    folds = _noise(rng, shape, 0.02)
    radius = np.sqrt((at[0] / 0.58) ** 2 + (at[1] / 0.72) ** 2 + (at[2] / 0.88) ** 2)
    brain = radius + 0.02 * _noise(rng, shape, 0.06) < 1
    tissue = np.where(radius + 0.10 * folds > 0.82, GREY, WHITE)
    tissue[radius + 0.05 * folds > 0.96] = CSF
    ventricles = ((np.abs(at[0]) - 0.09) / 0.06) ** 2 + (at[1] / 0.28) ** 2 + ((at[2] - 0.1) / 0.16) ** 2 < 1
    tissue[ventricles] = CSF
    tumor, middle = _tumor(rng, at, shape)
    labels = np.where(brain, tumor, 0).astype(np.uint8)
    tissue = np.where(labels > 0, labels, tissue)
    if watery is not None:
        labels[brain & middle], tissue[brain & middle] = watery, CSF
    images = np.stack([_image(rng, tissue, brain, channel) for channel in range(len(MODALITIES))])
    return images, labels


def _tumor(
    rng: np.random.Generator, at: NDArray[np.float32], shape: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(X, Y, Z): the labels of 2023, and the middle of the core."""
    side = rng.choice((-1.0, 1.0))
    centre = np.array([side * rng.uniform(0.22, 0.32), rng.uniform(-0.3, 0.3), rng.uniform(0.0, 0.3)])
    core = rng.uniform(0.12, 0.17)
    scaled = (at - centre[:, None, None, None].astype(np.float32)) * np.array([1.0, 1.0, 0.7])[:, None, None, None]
    distance = np.sqrt((scaled**2).sum(axis=0)) / core
    rough = _noise(rng, shape, 0.05)
    limits = (0.6 + 0.10 * rough, 1.0 + 0.12 * rough, 1.7 + 0.35 * _noise(rng, shape, 0.08))
    return np.select([distance < limit for limit in limits], [NCR, ET, ED], 0), distance < MIDDLE


def _image(
    rng: np.random.Generator, tissue: NDArray[np.int64], brain: NDArray[np.bool_], channel: int
) -> NDArray[np.int16]:
    """(X, Y, Z): one contrast: means of tissues, partial volume, texture, bias field, noise."""
    means = np.zeros(max(MEANS) + 1, np.float32)
    for label, values in MEANS.items():
        means[label] = values[channel] * rng.uniform(0.93, 1.07)
    image = ndimage.gaussian_filter(means[tissue], 0.7)
    image *= 1 + 0.03 * _noise(rng, brain.shape, 0.03) + 0.08 * _noise(rng, brain.shape, 0.4)
    image += rng.normal(0, 0.02, brain.shape).astype(np.float32)
    return np.where(brain, np.maximum(image * SCALE, 1), 0).astype(np.int16)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    """Smooth noise of unit variance; `scale` is its grain as a share of the volume's side."""
    coarse = [max(3, round(0.5 / scale)) for _ in shape]
    zoom = [n / c for n, c in zip(shape, coarse, strict=True)]
    noise = ndimage.zoom(rng.standard_normal(coarse).astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest")
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)
