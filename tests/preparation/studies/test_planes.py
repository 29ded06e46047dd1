"""The order of slices in space, and what lacks between them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_infer.preparation.studies.planes import Plane, stack
from tests.preparation.dicom_series import AXES, affine_of

NORMAL = np.array([0.0, 0.6, 0.8])


def _planes(heights: Sequence[float]) -> list[Plane]:
    """Oblique slices at heights in mm along their normal."""
    at = [tuple(float(v) for v in height * NORMAL + (5.0, 0.8 * 7, -0.6 * 7)) for height in heights]
    return [Plane((x, y, z), (1.0, 0.0, 0.0), (0.0, 0.8, -0.6), (0.5, 0.75)) for x, y, z in at]


@given(st.permutations(range(12)))
def test_order_follows_space_whatever_the_order_of_files(order: list[int]) -> None:
    stacked = stack(_planes([4.0 * i for i in order]))
    assert [order[i] for i in stacked.order] == list(range(12))
    assert (stacked.problem, stacked.gap) == (None, None)
    assert stacked.step_mm == pytest.approx(4)
    assert stacked.coverage_mm == pytest.approx(48)


@pytest.mark.parametrize(
    ("heights", "gap"),
    [
        ([0, 4, 8, 12, 16.3, 20.3], None),
        ([0, 4, 8, 16, 20, 24], "lacks 1 slices: 8 mm between slices 3 and 4, 4 mm elsewhere"),
        ([0, 4, 8, 24, 28, 36, 40, 44], "lacks 4 slices: 16 mm between slices 3 and 4, 4 mm elsewhere"),
        ([0, 4, 8, 12, 16.5, 20.5], "is unevenly spaced: 4.5 mm between slices 4 and 5, 4 mm elsewhere"),
    ],
)
def test_gaps_are_named(heights: list[float], gap: str | None) -> None:
    assert stack(_planes(heights)).gap == gap


def test_what_is_no_volume_is_said() -> None:
    planes = _planes([0.0, 4.0, 8.0])
    turned = replace(planes[1], along_row=(0.0, 0.8, -0.6), along_column=(1.0, 0.0, 0.0))
    assert stack([*planes, None]).problem == "slices of unknown place"
    assert stack(planes[:1]).problem == "a single slice"
    assert stack([planes[0], turned, planes[2]]).problem == "slices in several directions"
    assert stack([*planes, planes[1]]).problem == "several images at one place"


@pytest.mark.parametrize("orientation", AXES)
def test_pixels_have_their_place_in_nifti_coordinates(orientation: str) -> None:
    affine = affine_of(orientation)
    to_lps = np.diag([-1.0, -1.0, 1.0])
    along_row, along_column = (to_lps @ np.array(AXES[orientation][axis], float) for axis in (0, 1))
    position = to_lps @ (affine @ (0, 0, 6, 1))[:3]
    plane = Plane(tuple(position), tuple(along_row), tuple(along_column), (10.0, 9.0))
    assert np.allclose(plane.pixel_to_ras @ (4, 9, 1), (affine @ (4, 9, 6, 1))[:3])
