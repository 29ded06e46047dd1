"""What is refused, and what is warned of, in a case's images."""

from pathlib import Path

import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.files.nifti import read_images
from brats_infer.image.quality import SKULL_LEFT, check_content
from tests.case_files import SRI24, edit_header, head, write_case
from tests.image.volumes import case_of, place_numbers, warnings_of


@pytest.mark.parametrize(
    ("value", "fault"), [(0.0, "every voxel is 0"), (7.0, "has the value 7"), (-2.5, "has the value -2.5")]
)
def test_an_image_that_is_empty_or_constant_is_refused_by_name(value: float, fault: str) -> None:
    good = head().astype(np.float32)
    with pytest.raises(CaseError, match=rf"^case/2.nii.gz: every voxel .*{fault.removeprefix('every voxel ')}"):
        check_content(case_of([good, good, np.full_like(good, value), good], SRI24))
    if value:  # a mask in place of an image
        with pytest.raises(CaseError, match=fault):
            check_content(case_of([good, good, np.where(good != 0, np.float32(value), 0), good], SRI24))


def test_what_was_odd_about_the_files_is_told_with_the_case(tmp_path: Path) -> None:
    paths = write_case(tmp_path)
    edit_header(paths["t1c"], qoffset_x=50)
    (warning,) = warnings_of(read_images(paths.values()))
    assert "t1c.nii.gz: qform and sform differ" in warning


def test_a_voxel_far_beyond_all_others_is_told() -> None:
    image = np.zeros((20, 24, 22), np.float32)
    image[4:-4, 4:-4, 4:-4] = np.random.default_rng(0).gamma(2, 100, (12, 16, 14))
    images = [image * n for n in range(1, 5)]
    assert warnings_of(case_of(images, SRI24)) == []
    images[1][9, 9, 9] = -1e6
    (warning,) = warnings_of(case_of(images, SRI24))
    assert "holds a voxel of 1e+06" in warning


@pytest.mark.parametrize("shape", [(256, 64, 16), (64, 64, 64), (40, 50, 60)])
def test_a_voxel_far_beyond_all_others_is_told_on_every_grid(shape: tuple[int, int, int]) -> None:
    """Of steps of a power of two every one may meet the same side of the grid, where all is background."""
    images = [np.zeros(shape, np.float32) for _ in range(4)]
    for image in images:
        image[8:-8, 8:-8, 4:-4] = np.random.default_rng(0).gamma(2, 100, (shape[0] - 16, shape[1] - 16, shape[2] - 8))
    images[2][12, 12, 8] = 1e9
    warnings = warnings_of(case_of(images, SRI24))
    assert any("holds a voxel of 1e+09" in warning for warning in warnings)


def test_a_contrast_that_is_a_copy_of_another_is_told() -> None:
    image = place_numbers((16, 20, 18), SRI24)
    images = [image, image * 2, image * 3, image * 2]
    (warning,) = warnings_of(case_of(images, SRI24))
    assert "holds the same voxels as " in warning


@pytest.mark.parametrize(("share", "told"), [(0.45, True), (0.55, False)])
def test_a_contrast_that_is_0_in_most_of_the_brain_is_told(share: float, told: bool) -> None:
    image = place_numbers((16, 20, 18), SRI24)
    partly = image.copy()
    partly[np.cumsum(image.ravel() > 0).reshape(image.shape) > share * np.count_nonzero(image)] = 0
    warnings = warnings_of(case_of([image, image * 2, image * 3, partly], SRI24))
    assert bool(warnings) == told
    assert all("is 0 in 55% of the brain, which can spoil the map" in warning for warning in warnings)


def test_tilted_grid_is_told() -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    for tilt, expected in ((turn, True), (np.eye(4), False)):
        warnings = warnings_of(case_of([head((12, 14, 10)).astype(np.float32)] * 4, SRI24 @ tilt))
        assert any("tilted by 23 degrees" in warning for warning in warnings) is expected


@pytest.mark.parametrize(("mm", "told"), [(1.0, False), (1.3, True), (1.04, False)])
def test_unstripped_images_are_told_by_the_volume_of_what_is_not_0(mm: float, told: bool) -> None:
    """Field report unstripped: a head fills 2.65 litres, a brain 1.0 to 1.9."""
    images = [np.pad(np.full((120, 130, 120), n, np.int16), 40) for n in range(1, 5)]  # 1.9 litres at 1 mm
    for image in images:
        image[50, 50, 50] += 1
    *_, warning = ["", *warnings_of(case_of(images, SRI24 @ np.diag([mm, 1, 1, 1])))]
    assert (f"case: what is not 0 fills {1.872 * mm:.2f} litres" in warning) is told
    assert warning.endswith(f"a brain 1.0 to 1.9: {SKULL_LEFT}") is told


def test_background_that_is_not_0_is_told() -> None:
    for offset, expected in ((1000, True), (0, False)):
        image = (head((12, 14, 10)) + offset).astype(np.float32)
        warnings = warnings_of(case_of([image] * 4, SRI24))
        assert any("remove the skull" in warning for warning in warnings) is expected
