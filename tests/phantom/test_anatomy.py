"""Label maps of heads become tissue maps of brains."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import UsageError
from brats_infer.phantom.anatomy import (
    MARGIN,
    MENINGES,
    Tissue,
    load_anatomies,
    mni152_anatomy,
    read_anatomy,
    tissues_of,
)
from tests.phantom.heads import head_codes

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def save(path: Path, data: np.ndarray, affine: np.ndarray = LPS) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def test_codes_become_tissues_and_the_skull_goes() -> None:
    codes = head_codes()
    tissues = tissues_of(codes.astype(np.int64))
    assert set(np.unique(tissues)) == {0, Tissue.CSF, Tissue.VENTRICLE, Tissue.CORTEX, Tissue.WHITE}
    for tissue, code in ((Tissue.WHITE, 2), (Tissue.CORTEX, 3), (Tissue.VENTRICLE, 4)):
        assert (tissues == tissue).sum() == (codes == code).sum()


def test_fluid_far_from_tissue_is_no_part_of_the_brain() -> None:
    codes = head_codes()
    codes[40:48, 40:48, :10] = 24  # a spinal canal
    depth = int(np.flatnonzero((codes == 3).any(axis=(0, 1)))[0])
    tissues = tissues_of(codes.astype(np.int64))
    below = int(np.flatnonzero((tissues == Tissue.CORTEX).any(axis=(0, 1)))[0])
    assert depth > 10
    assert not tissues[:, :, : below - MENINGES].any()
    assert min(np.flatnonzero(tissues.any(axis=(0, 1)))[0], MARGIN) == MARGIN


def test_tissue_maps_of_three_classes_are_read_as_such() -> None:
    codes = np.zeros((20, 20, 20), np.int64)
    codes[4:16, 4:16, 4:16], codes[5:15, 5:15, 5:15], codes[7:13, 7:13, 7:13] = 1, 2, 3
    counts = np.bincount(tissues_of(codes).ravel(), minlength=5)
    assert (counts[Tissue.CSF], counts[Tissue.CORTEX], counts[Tissue.WHITE]) == (728, 784, 216)


def test_parcellated_cortex_is_cortex_and_white_matter_white() -> None:
    codes = head_codes().astype(np.int64)
    expected = tissues_of(codes)
    left = np.arange(codes.shape[0])[:, None, None] < codes.shape[0] // 2
    parcels = np.where(codes == 3, np.where(left, 1008, 2035), np.where(codes == 2, np.where(left, 3001, 5002), codes))
    assert np.array_equal(tissues_of(parcels), expected)


def test_a_map_of_other_voxels_than_1_mm_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", head_codes(), LPS @ np.diag([2, 2, 2, 1]))
    with pytest.raises(UsageError, match=r"a\.nii\.gz: its voxels are of 2x2x2 mm: resample it to 1 mm"):
        read_anatomy(path)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_any_orientation_ends_on_the_same_axes(tmp_path: Path, signs: tuple[int, int, int]) -> None:
    codes = head_codes(40)
    codes[20:, :20, 25:] = np.where(codes[20:, :20, 25:] == 2, 16, codes[20:, :20, 25:])  # one corner is marked
    expected = read_anatomy(save(tmp_path / "a.nii.gz", codes))
    flips = [axis for axis in range(3) if signs[axis] != LPS[axis, axis]]
    turned = read_anatomy(save(tmp_path / "b.nii.gz", np.flip(codes, flips), np.diag([*signs, 1.0])))
    assert expected is not None
    assert turned is not None
    assert np.array_equal(expected, turned)


def test_images_and_a_trailing_axis(tmp_path: Path) -> None:
    save(tmp_path / "image.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    save(tmp_path / "labels.nii.gz", head_codes(40)[..., np.newaxis])
    assert len(load_anatomies(tmp_path)) == 1


@pytest.mark.parametrize(
    "data", [np.ones((9, 8, 7), np.uint8), np.zeros((9, 8, 7)), np.ones((9, 8)), np.ones((9, 8, 7, 3))]
)
def test_a_file_that_is_no_map_of_tissues_is_passed_by(tmp_path: Path, data: np.ndarray) -> None:
    assert read_anatomy(save(tmp_path / "a.nii.gz", data.astype(np.uint8))) is None


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 4, (30, 30, 30), np.uint8))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UsageError, match=r"a\.nii\.gz: cannot be read"):
        load_anatomies(tmp_path)


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no label map.*--anatomy"):
        load_anatomies(tmp_path)
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"broken.nii.gz: cannot be read"):
        load_anatomies(tmp_path)


def test_mni152_is_a_brain_of_the_usual_size() -> None:
    tissues = mni152_anatomy()
    millilitres = {tissue: int((tissues == tissue).sum()) / 1000 for tissue in Tissue}
    assert 450 < millilitres[Tissue.WHITE] < 800
    assert 700 < millilitres[Tissue.CORTEX] < 1500
    assert 5 < millilitres[Tissue.VENTRICLE] < 60
    left = tissues[: len(tissues) // 2].count_nonzero()
    assert abs(int(left) / int(tissues.count_nonzero()) - 0.5) < 0.03
    sides = [int(np.ptp(np.flatnonzero(tissues.numpy().any(axis=axes)))) for axes in ((1, 2), (0, 2), (0, 1))]
    assert sides == pytest.approx([142, 182, 155], abs=18)


def test_mni152_without_nilearn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_infer.phantom.anatomy.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--anatomy mni152: needs nilearn"):
        mni152_anatomy()
