"""The NSD of 2024, against erosion and distance transforms of scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from brats_infer.evaluate.metrics2024.nsd import TOLERANCES, SurfaceDice
from brats_infer.evaluate.surface import Spacing

SPACINGS: tuple[Spacing, ...] = ((1.0, 1.0, 1.0), (0.9, 0.9, 3.0), (0.5, 0.5, 1.0), (0.4, 1.2, 0.3))
ALL = np.array([False, True])


def surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, ndimage.generate_binary_structure(3, 1))


def expected(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> list[float]:
    a, b = surface(prediction), surface(reference)
    if not a.any() or not b.any():
        return [float(a.any() == b.any())] * len(TOLERANCES)
    to_a, to_b = (ndimage.distance_transform_edt(~each, sampling=spacing) for each in (a, b))
    shares = [((to_b[a] <= mm).mean(), (to_a[b] <= mm).mean()) for mm in TOLERANCES]
    return [(p + q) / ((p + q) + (1 - p) + (1 - q) + 1e-8) for p, q in shares]


def blob(rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(rng.random((9, 8, 10)), 1.5) > rng.uniform(0.45, 0.6)


@given(seed=st.integers(0, 10_000), spacing=st.sampled_from(SPACINGS))
def test_shares_of_surface_voxels_within_the_tolerance(seed: int, spacing: Spacing) -> None:
    """Also at the volume's edge, beyond which is background."""
    rng = np.random.default_rng(seed)
    prediction, reference = blob(rng), blob(rng)
    found = SurfaceDice(prediction.astype(np.uint16), reference.astype(np.uint16), spacing).between(ALL, ALL)
    assert found == pytest.approx(expected(prediction, reference, spacing), abs=1e-12)


def test_only_chosen_lesions_count() -> None:
    prediction, reference = np.zeros((2, 3, 3, 30), np.uint16)
    prediction[1, 1, 2:5], prediction[1, 1, 20:23] = 1, 2
    reference[1, 1, 2:5], reference[1, 1, 12:15] = 1, 2
    dice = SurfaceDice(prediction, reference, (1.0, 1.0, 1.0))
    one, two = np.array([False, True, False]), np.array([False, False, True])
    assert dice.between(one, one) == (pytest.approx(1, abs=1e-8), pytest.approx(1, abs=1e-8))
    assert dice.between(one, one)[0] < 1
    assert dice.between(two, one) == dice.between(one, two) == (0, 0)
    assert dice.between(one | two, one | two)[0] == pytest.approx(0.5)


def test_without_a_lesion_on_one_side_0_and_on_both_1() -> None:
    some = np.ones((2, 2, 2), np.uint16)
    none = np.zeros_like(some)
    assert SurfaceDice(some, none, (1.0, 1.0, 1.0)).between(ALL, np.array([False])) == (0, 0)
    assert SurfaceDice(none, none, (1.0, 1.0, 1.0)).between(np.array([False]), np.array([False])) == (1, 1)
