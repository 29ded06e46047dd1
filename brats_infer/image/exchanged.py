"""Signs that two contrasts of a case are exchanged. Measured on 45 real cases (docs/faults.md): no false alarm."""

import numpy as np
from numpy.typing import NDArray

from brats_infer.image.crop import Cropped
from brats_infer.tasks import MODALITIES

STEP = 3  # every third voxel along each axis is enough
FEWEST = 10_000  # voxels of the sample; smaller brains are not judged
TAILS = (0.1, 99.9)  # percentiles
BRIGHTEST = 98.0  # percentile
SKEWNESS = -1.0  # of t1c - t1n; real cases have -0.2 to 5.0
FLUID = 0.2  # in spreads of t1n; real cases have -1.2 to -0.1


def exchanged(cropped: Cropped) -> list[str]:
    """Remarks on contrasts that look exchanged, without the case's name.

    Contrast agent brightens few voxels much: the differences t1c - t1n have a long tail above their middle. Fluid is
    the brightest tissue in t2w but not in t2f: where t2w is brightest, t1n is darker than where t2f is brightest.
    """
    if len(cropped.views) != len(MODALITIES):  # a challenge of fewer contrasts
        return []
    samples = [view[::STEP, ::STEP, ::STEP] for view in cropped.views]
    inside = np.logical_and.reduce([sample != 0 for sample in samples])
    if np.count_nonzero(inside) < FEWEST:
        return []
    t1n, t1c, t2w, t2f = (_scaled(sample[inside]) for sample in samples)
    remarks = []
    if _skewness(t1c - t1n) < SKEWNESS:
        remarks.append("t1n and t1c look exchanged: check which file is which")
    if np.median(t1n[_brightest(t2w)]) - np.median(t1n[_brightest(t2f)]) > FLUID:
        remarks.append("t2w and t2f look exchanged: check which file is which")
    return remarks


def _scaled(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """(N,) with median 0, and 1 from the 10th to the 90th percentile."""
    numbers = values.astype(np.float32)
    low, middle, high = np.percentile(numbers, (10, 50, 90))
    return np.asarray((numbers - middle) / (high - low or 1.0), np.float32)


def _skewness(values: NDArray[np.float32]) -> float:
    """The third standardised moment of (N,), without the outermost values; 0 if all values are equal."""
    kept = np.clip(values, *np.percentile(values, TAILS)).astype(np.float64)
    kept -= kept.mean()
    spread = kept.std()
    return float((kept**3).mean() / spread**3) if spread else 0.0


def _brightest(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(values >= np.percentile(values, BRIGHTEST))
