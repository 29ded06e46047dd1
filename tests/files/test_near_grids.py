"""Grids that are equal, nearly equal, turned, or contradict their own header."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_infer.evaluate.label_maps import turn_onto
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import read_volume
from tests.case_files import SHAPE, SRI24, edit_header, head
from tests.case_files import write_image as save
from tests.files.places import OBLIQUE


@pytest.mark.parametrize(("shift", "told"), [(0.0, None), (9e-4, None), (0.004, "0.004 mm"), (0.09, "0.09 mm")])
def test_grids_less_than_a_tenth_of_a_voxel_apart_are_one_with_a_warning(shift: float, told: str | None) -> None:
    moved = SRI24.copy()
    moved[1, 3] += shift
    here, there = Geometry.of_affine(SHAPE, SRI24), Geometry.of_affine(SHAPE, moved)
    assert there.difference(here, "a.nii.gz") is None
    warning = there.offset(here, "a.nii.gz")
    assert warning == (told and f"its affine differs by {told} from that of a.nii.gz, less than a tenth of a voxel")


def test_a_tenth_of_a_voxel_is_one_of_the_shortest_edge() -> None:
    moved = OBLIQUE.copy()
    moved[0, 3] += 0.095  # mm; the shortest edge is 0.9 mm
    assert Geometry.of_affine(SHAPE, moved).difference(Geometry.of_affine(SHAPE, OBLIQUE), "a")


@settings(max_examples=60)
@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3), st.sampled_from((SRI24, OBLIQUE)))
def test_array_of_any_axis_order_and_flip_turns_onto_the_grid_it_came_from(
    order: list[int], flips: tuple[int, ...], affine: np.ndarray
) -> None:
    image = nib.Nifti1Image(head(), affine)
    other = image.as_reoriented(np.array(list(zip(order, flips, strict=True)), float))
    here, there = (Geometry.of_affine(one.shape, one.affine) for one in (image, other))
    turn = turn_onto(there, here)
    assert turn is not None
    assert np.array_equal(nib.apply_orientation(np.asarray(other.dataobj), turn), head())


def test_array_that_covers_other_voxels_turns_onto_nothing() -> None:
    here = Geometry.of_affine(SHAPE, SRI24)
    for affine in (np.eye(4), OBLIQUE, np.zeros((4, 4)), np.full((4, 4), np.nan)):
        assert turn_onto(replace(here, affine=affine), here) is None


def test_pixdim_that_contradicts_the_affine_warns_and_says_which_is_used(tmp_path: Path) -> None:
    path = save(tmp_path / "image.nii.gz", head(), OBLIQUE)
    assert read_volume(path).warnings == ()
    edit_header(path, qform_code=0, pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    (warning,) = read_volume(path).warnings
    assert warning == f"{path}: its pixdim says voxels of 1x1x1 mm, its affine 0.9x1.1x2 mm: the affine was used"
    edit_header(path, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    assert read_volume(path).warnings == (), "pixdim says nothing"


@pytest.mark.parametrize(("scale", "near"), [(1.005, True), (1.01, False)])
def test_a_scale_counts_at_the_corner_that_it_moves_most(scale: float, near: bool) -> None:
    """14 voxels along y: 0.065 or 0.13 voxels at the far end."""
    scaled = Geometry.of_affine(SHAPE, SRI24 @ np.diag([1, scale, 1, 1]))
    assert (scaled.difference(Geometry.of_affine(SHAPE, SRI24), "a") is None) == near
