"""Whole heads before radiotherapy: one contrast, the tissues around the brain, a face that may be blank, own voxels."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brats_infer.phantom.around.head import FIRST, HeadTissue, head_of, heads_named, paint_head, visible
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.make import Phantom, make_phantom
from brats_infer.phantom.settings import T1C
from brats_infer.phantom.write import write_cohort
from tests.phantom.heads import head_codes
from tests.phantom.test_make import ANATOMY, CPU


def whole_head() -> np.ndarray:
    """The codes of `head_codes` with a skull and a scalp."""
    codes = head_codes()
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, codes.shape[0])] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    codes[(radius >= 0.82) & (radius < 0.88)] = 515
    codes[(radius >= 0.88) & (radius < 0.95)] = 511
    return codes.astype(np.int64)


HEAD = torch.from_numpy(head_of(whole_head()))


@pytest.fixture(scope="module")
def cases() -> list[Phantom]:
    return [make_phantom([HEAD], "men-rt", seed) for seed in range(4)]


def test_codes_of_the_head_stay_around_the_brain() -> None:
    assert {HeadTissue.BONE, HeadTissue.SCALP} == {int(t) for t in np.unique(HEAD) if t >= FIRST}
    codes = whole_head()
    assert int((HEAD == HeadTissue.BONE).sum()) == pytest.approx(int((codes == 515).sum()), rel=0.02)
    assert int((HEAD == 4).sum()) == int((codes == 2).sum())  # white matter


def test_a_map_of_the_brain_alone_gets_a_shell() -> None:
    codes = np.where(whole_head() >= 500, 0, whole_head())
    head = head_of(codes)
    assert {HeadTissue.BONE, HeadTissue.MARROW, HeadTissue.SCALP} == {int(t) for t in np.unique(head) if t >= FIRST}
    away = np.flatnonzero((head > 0).any(axis=(1, 2)))
    brain = np.flatnonzero(((head > 0) & (head < FIRST)).any(axis=(1, 2)))
    assert brain[0] - away[0] == pytest.approx(12, abs=2)


def test_a_map_without_a_brain_is_passed_by(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((9, 9, 9), 507, np.int16), np.diag([-1.0, -1, 1, 1])), tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(whole_head().astype(np.int16), np.diag([-1.0, -1, 1, 1])), tmp_path / "b.nii.gz")
    assert len(heads_named(str(tmp_path))) == 1


def test_fat_is_bright_and_bone_dark() -> None:
    images = paint_head(Draw.of_seed(0, CPU), torch.full((1, *HEAD.shape), 0.5), HEAD, (T1C,))
    bone, fat, brain = (float(images[0][where].median()) for where in (HEAD == 12, HEAD == 10, HEAD == 4))
    assert bone < brain < fat


def test_half_of_the_faces_are_blank_and_the_brain_never_is() -> None:
    brain = (HEAD > 0) & (HEAD < FIRST)
    gone = []
    for seed in range(12):
        shown = visible(Draw.of_seed(seed, CPU), HEAD)
        assert torch.equal(shown[brain], HEAD[brain])
        lost = (HEAD > 0) & (shown == 0)
        gone.append(bool(lost.any()))
        if gone[-1]:
            _, y, z = lost.nonzero().float().mean(dim=0).tolist()
            assert (y, z) < (HEAD.shape[1] / 2, HEAD.shape[2] / 2)
    assert 2 < sum(gone) < 10


def test_one_contrast_with_an_enhancing_target_at_the_surface(cases: list[Phantom]) -> None:
    ratios = []
    for case in cases:
        assert case.images.shape[0] == 1
        assert set(np.unique(case.labels)) == {0, 1}
        image = case.images[0]
        ratios.append(float(image[case.labels == 1].median() / image[image > 0].median()))
    assert np.median(ratios) > 1.2


def test_air_is_noise_in_some_cases_and_0_in_others(cases: list[Phantom]) -> None:
    assert len({bool((case.images == 0).float().mean() > 0.05) for case in cases}) == 2


def test_files_are_of_one_contrast_on_voxels_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "anatomy").mkdir()
    nib.save(nib.Nifti1Image(whole_head().astype(np.int16), np.diag([-1.0, -1, 1, 1])), tmp_path / "anatomy/a.nii.gz")
    ids = list(write_cohort(tmp_path / "out", "men-rt", 2, seed=1, anatomy=str(tmp_path / "anatomy")))
    assert ids == ["BraTS-MEN-RT-1000-0", "BraTS-MEN-RT-1001-0"]
    edges = []
    for case_id in ids:
        names = sorted(path.name for path in (tmp_path / "out" / case_id).iterdir())
        assert names == [f"{case_id}-seg.nii.gz", f"{case_id}-t1c.nii.gz"]
        image, labels = (nib.load(tmp_path / "out" / case_id / name) for name in reversed(names))
        assert image.shape == labels.shape
        assert np.array_equal(image.affine, labels.affine)
        x, y, z = (float(mm) for mm in nib.affines.voxel_sizes(image.affine))
        assert x == pytest.approx(y)
        assert 0.5 <= x <= 1 <= z <= 3
        assert np.multiply(image.shape, (x, y, z)) == pytest.approx(ANATOMY.shape, abs=30)
        edges.append(x)
    assert edges[0] != edges[1]
