"""Lesions of 2024, against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from brats_infer.evaluate.metrics2024.merging import merged

NEIGHBOURS_18, NEIGHBOURS_26 = (ndimage.generate_binary_structure(3, rank) for rank in (2, 3))


def row(*gaps: int) -> np.ndarray:
    """Single voxels along an axis, with these numbers of background voxels between them."""
    mask = np.zeros((3, 3, sum(gaps) + len(gaps) + 1), bool)
    mask[1, 1, np.cumsum([0, *(gap + 1 for gap in gaps)])] = True
    return mask


@given(seed=st.integers(0, 10_000), steps=st.sampled_from((1, 3, 5)))
def test_lesions_are_components_of_the_dilated_mask_in_raster_order(seed: int, steps: int) -> None:
    """scipy numbers components in raster order."""
    mask = np.random.default_rng(seed).random((14, 12, 30)) < 0.004
    expected, count = ndimage.label(ndimage.binary_dilation(mask, NEIGHBOURS_18, steps), NEIGHBOURS_26)
    found = merged(mask, steps)
    assert np.array_equal(found.reach, expected)
    assert np.array_equal(found.numbers, expected * mask)
    assert found.voxels.tolist() == [0, *(int((expected[mask] == n).sum()) for n in range(1, count + 1))]


@pytest.mark.parametrize(("steps", "widest"), [(1, 2), (3, 6), (5, 10)])
def test_a_gap_of_twice_the_steps_joins_and_one_more_voxel_does_not(steps: int, widest: int) -> None:
    assert len(merged(row(widest), steps).voxels) == 2
    assert len(merged(row(widest + 1), steps).voxels) == 3


def test_small_lesions_go_by_the_sum_of_their_pieces_and_leave_holes_in_the_numbers() -> None:
    lesions = merged(row(20, 2, 20), 3)
    assert lesions.voxels.tolist() == [0, 1, 2, 1]
    large = lesions.without_small(1)
    assert large.voxels.tolist() == [0, 0, 2]
    assert np.unique(large.numbers).tolist() == [0, 2]
    assert large.mask.sum() == 2
    assert lesions.without_small(0.5) is lesions
    assert not lesions.without_small(2).mask.any()


def test_an_empty_mask_has_no_lesion() -> None:
    assert merged(np.zeros((0, 0, 0), bool), 3).voxels.tolist() == [0]
    assert merged(np.zeros((3, 4, 5), bool), 3).voxels.tolist() == [0]
