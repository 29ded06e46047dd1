"""The weighted Hausdorff distance against DeepMind's table of normals and against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.evaluate.surface import Spacing, element_areas, hd95, neighbour_codes
from tests.evaluate import oracle

SPACINGS = [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (0.5, 0.5, 5.0), (0.7, 1.3, 0.4)]
MASKS = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_computed_areas_are_those_of_the_table_of_the_definition(spacing: Spacing) -> None:
    np.testing.assert_allclose(element_areas(spacing), oracle.areas_of_codes(spacing), rtol=1e-14)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_plane_through_the_grid_has_its_true_area(spacing: Spacing) -> None:
    x, y, z = spacing
    areas = element_areas(spacing)
    assert areas[0b00001111] == pytest.approx(y * z)  # across the first axis
    assert areas[0b00010111] == pytest.approx(6 * areas[1])  # a hexagon across a diagonal
    assert areas[0b00000011] == pytest.approx(np.hypot(x, y) / 2 * z)  # along the edge of a box


def test_the_highest_bit_is_the_voxel_of_the_lowest_indices() -> None:
    for bit in range(8):
        block = np.zeros(8, bool)
        block[bit] = True
        assert neighbour_codes(block.reshape(2, 2, 2)).item() == 128 >> bit


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), a=MASKS, spacing=st.sampled_from(SPACINGS))
def test_hd95_is_that_of_every_distance_to_every_element(
    data: st.DataObject, a: NDArray[np.bool_], spacing: Spacing
) -> None:
    b = data.draw(arrays(bool, a.shape))
    if a.any() or b.any():
        assert hd95(a, b, spacing) == pytest.approx(oracle.hd95(a, b, spacing), abs=1e-9)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_hd95_of_distant_surfaces_is_that_of_distance_transforms(spacing: Spacing) -> None:
    a, b = np.zeros((2, 40, 30, 24), bool)
    a[2:9, 3:20, 5:8], b[25:39, 10:28, 2:22] = True, True
    borders, lengths = {}, {}
    for name, mask in (("a", a), ("b", b)):
        codes = ndimage.correlate(np.pad(mask, 1).astype(int), oracle.KERNEL, mode="constant")
        borders[name] = (codes != 0) & (codes != 255)
        lengths[name] = ndimage.distance_transform_edt(~borders[name], sampling=spacing)
    expected = max(
        oracle.percentile(lengths[there][borders[here]], oracle.elements(mask, spacing)[1])
        for here, there, mask in (("a", "b", a), ("b", "a", b))
    )
    assert hd95(a, b, spacing) == pytest.approx(expected, abs=1e-9)


def test_empty_masks_have_a_defined_distance() -> None:
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    assert hd95(empty, empty) == 0.0
    assert hd95(empty, full) == hd95(full, empty) == float("inf")
    assert hd95(full, full) == 0.0
