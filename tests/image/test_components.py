"""Components of a mask, beside scipy's, and its dust, beside cc3d's own."""

import cc3d
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from brats_infer.image.voxels import components_of, without_dust

NEIGHBOURS = {6: 1, 18: 2, 26: 3}  # as scipy counts them: axes that may change at once


@pytest.mark.parametrize("connectivity", NEIGHBOURS)
@given(
    shape=st.tuples(*[st.integers(0, 9)] * 3),
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 1),
    apart=st.booleans(),
)
def test_components_are_scipys(
    connectivity: int, shape: tuple[int, int, int], seed: int, share: float, apart: bool
) -> None:
    mask = np.random.default_rng(seed).random(shape) < share
    if apart:  # every other voxel of each axis: as many components as there can be
        mask &= (np.indices(shape) % 2 == 0).all(axis=0)
    found = components_of(mask, connectivity)
    expected, count = ndimage.label(mask, ndimage.generate_binary_structure(3, NEIGHBOURS[connectivity]))
    assert len(set(zip(found.flat, expected.flat, strict=True)) | {(0, 0)}) == count + 1
    assert set(found.flat) | {0} == set(range(count + 1))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 1), (11, 1, 1), (1, 7, 9), (9, 1, 9), (7, 9, 1), (3, 3, 3)])
def test_thin_masks_of_single_voxels_have_as_many_components(shape: tuple[int, int, int]) -> None:
    """More than the numbers that cc3d has room for."""
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    assert components_of(mask, 26).max() == np.count_nonzero(mask)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 0.4), limit=st.integers(0, 12))
def test_mask_loses_what_cc3d_calls_dust(connectivity: int, seed: int, share: float, limit: int) -> None:
    mask = np.random.default_rng(seed).random((9, 8, 7)) < share
    before = mask.copy()
    found = without_dust(mask, limit, connectivity)
    expected = cc3d.dust(mask, threshold=limit + 1, connectivity=connectivity, in_place=False)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == bool
    np.testing.assert_array_equal(mask, before)
