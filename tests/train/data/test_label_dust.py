"""Specks in the training labels, with scipy's components as the oracle."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.tasks import TASKS
from brats_infer.train.data.label_dust import large_lesions, without_label_dust

GLI = TASKS["gli"]
FULL = np.ones((3, 3, 3), bool)


def by_hand(mask: NDArray[np.bool_], iterations: int, limit: int) -> NDArray[np.bool_]:
    wide = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 2), iterations) if iterations else mask
    lesions, number = ndimage.label(wide, FULL)
    kept = np.zeros_like(mask)
    for index in range(1, number + 1):
        lesion = mask & (lesions == index)
        kept |= lesion if lesion.sum() > limit else False
    return kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_only_large_lesions_stay(seed: int, iterations: int) -> None:
    mask = np.random.default_rng(seed).random((24, 22, 20)) < 0.003 * (1 + seed)
    mask |= ndimage.binary_dilation(mask & (np.arange(24) < 8)[:, None, None])
    for limit in (1, 6, 12):
        np.testing.assert_array_equal(large_lesions(mask, iterations, limit), by_hand(mask, iterations, limit))


def test_empty_mask_stays_empty() -> None:
    assert not large_lesions(np.zeros((4, 4, 4), bool), 3, 50).any()


@pytest.mark.parametrize(("size", "stays"), [((5, 5, 2), False), ((17, 3, 1), True)])
def test_dust_is_fifty_voxels_or_fewer(size: tuple[int, int, int], stays: bool) -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[tuple(slice(1, 1 + n) for n in size)] = True
    assert large_lesions(mask, 3, GLI.regions[0].dust_mm3).any() == stays


@pytest.mark.parametrize("seed", range(3))
def test_regions_stay_nested(seed: int) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((40, 40, 40)), 2)
    regions = np.stack([smooth > np.quantile(smooth, share) for share in (0.95, 0.97, 0.99)])
    outer, middle, inner = clean = without_label_dust(regions, GLI)
    assert not (middle & ~outer).any()
    assert not (inner & ~middle).any()
    assert (clean != regions).any()
