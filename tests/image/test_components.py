"""Dust of a mask, beside cc3d's own."""

import cc3d
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_infer.image.voxels import without_dust


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
