"""Where the viewer's voxels lie in the world, against the headers of the files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.files.nifti import read_images
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import crop_to_brain
from brats_infer.report.sight import affine_of_crop, read_sight
from tests.case_files import SHAPE, write_case, write_image

AFFINES = {
    "LPS": np.array([[-1.0, 0, 0, 90], [0, -1, 0, 100], [0, 0, 1, -70], [0, 0, 0, 1]]),
    "ASR": np.array([[0, 0, 1.0, -5], [1, 0, 0, 10], [0, 1, 0, -3], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("axes", AFFINES)
def test_voxel_of_the_crop_lies_where_the_file_says(tmp_path: Path, axes: str) -> None:
    mark = np.random.default_rng(0).integers(1, 900, SHAPE, np.int16)
    mark[0] = mark[:, 0] = 0
    write_case(tmp_path, affine=AFFINES[axes], image=lambda _: mark)
    (case,) = find_cases(tmp_path)
    cropped = crop_to_brain(read_images(case.paths.values()))
    affine = affine_of_crop(cropped.restore)
    for voxel in ((0, 0, 0), (3, 2, 5), (6, 7, 1)):
        mm = nib.affines.apply_affine(affine, voxel)
        at = np.round(nib.affines.apply_affine(np.linalg.inv(AFFINES[axes]), mm)).astype(int)
        assert cropped.images[0][voxel] == mark[tuple(at)]


def test_voxels_that_are_not_1_mm_keep_their_place(tmp_path: Path) -> None:
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    image = (np.ones(SHAPE) + np.arange(SHAPE[2])).astype(np.float32)
    write_case(tmp_path, affine=affine, image=lambda _: image)
    (case,) = find_cases(tmp_path)
    cropped = crop_to_brain(read_images(case.paths.values()))
    x, y, z = cropped.images.shape[1:]
    corners = nib.affines.apply_affine(
        affine_of_crop(cropped.restore), [(-0.5, -0.5, -0.5), (x - 0.5, y - 0.5, z - 0.5)]
    )
    expected = nib.affines.apply_affine(affine, [(-0.5, -0.5, -0.5), np.array(SHAPE) - 0.5])
    np.testing.assert_allclose(corners, expected)


def test_label_map_that_does_not_fit_is_named(tmp_path: Path) -> None:
    write_case(tmp_path / "in")
    (case,) = find_cases(tmp_path / "in")
    turned = write_image(tmp_path / "turned.nii.gz", np.zeros(SHAPE, np.uint8), np.diag([1.0, 1, 1, 1]))
    with pytest.raises(
        CaseError, match=r"turned\.nii\.gz: its affine differs by 239 mm from that of the images of Bra"
    ):
        read_sight(case, turned)
    small = write_image(tmp_path / "small.nii.gz", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(CaseError, match=r"small\.nii\.gz: its shape \(3, 3, 3\) is not .* of the images of BraTS-GLI"):
        read_sight(case, small)
    strange = write_image(tmp_path / "strange.nii.gz", np.full(SHAPE, 9, np.uint8))
    with pytest.raises(CaseError, match=r"strange\.nii\.gz: holds the label 9"):
        read_sight(case, strange)
