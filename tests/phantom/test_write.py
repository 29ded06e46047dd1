"""Cohorts on disk: the layout of 2023, on either affine, the same bytes for the same seed."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import UsageError
from brats_infer.files.labels import read_labels
from brats_infer.files.nifti import read_images
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import crop_labels, crop_to_brain
from brats_infer.phantom.anatomy import load_anatomies
from brats_infer.phantom.make import make_phantom
from brats_infer.phantom.task_recipes import RECIPES
from brats_infer.phantom.write import write_cohort
from brats_infer.tasks import TASKS
from tests.phantom.heads import head_codes

SHAPE = (124, 122, 126)


@pytest.fixture(scope="module")
def anatomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anatomy")
    nib.save(nib.Nifti1Image(head_codes(), np.diag([-1.0, -1.0, 1.0, 1.0])), folder / "head.nii.gz")
    return folder


def test_cases_are_read_as_what_was_made(anatomy: Path, tmp_path: Path) -> None:
    ids = list(write_cohort(tmp_path, "ssa", 4, seed=2, anatomy=str(anatomy), shape=SHAPE))
    assert ids == [f"BraTS-SSA-{n:05d}-000" for n in range(2000, 2004)]
    cases = find_cases(tmp_path, "auto")
    assert [case.id for case in cases] == ids
    axes = set()
    for number, case in enumerate(cases):
        assert not case.problem
        cropped = crop_to_brain(read_images(case.paths.values()))
        labels, geometry = read_labels(tmp_path / case.id / f"{case.id}-seg.nii.gz")
        made = make_phantom(load_anatomies(anatomy), "ssa", 2000 + number)
        found = crop_labels(labels, cropped.restore)
        assert np.array_equal(np.bincount(found.ravel())[1:], np.bincount(made.labels.numpy().ravel())[1:])
        assert np.count_nonzero(cropped.images[0]) == int(made.images[0].count_nonzero())
        assert geometry.shape == SHAPE
        axes.add(nib.aff2axcodes(geometry.affine))
    assert axes == {("L", "P", "S"), ("R", "A", "S")}


def test_same_seed_same_bytes(anatomy: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        list(write_cohort(tmp_path / name, "men", 1, seed=1, anatomy=str(anatomy), shape=SHAPE))
    files = sorted((tmp_path / "a").rglob("*.nii.gz"))
    assert len(files) == 5
    for path in files:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.parametrize("task", TASKS)
def test_simple_cases_hold_every_label_and_contrast_of_their_task(task: str, tmp_path: Path) -> None:
    (case_id,) = write_cohort(tmp_path, task, 1, seed=1, shape=(40, 44, 36))
    (case,) = find_cases(tmp_path, "auto")
    assert (case.id, case.task, case.problem) == (case_id, TASKS[task], None)
    assert sorted(case.paths) == sorted(modality.name for modality in TASKS[task].modalities)
    labels, _ = read_labels(tmp_path / case_id / f"{case_id}-seg.nii.gz")
    assert sorted(set(np.unique(labels)) - {0}) == list(TASKS[task].labels)


def test_the_grid_is_that_of_the_challenge_unless_a_shape_is_given() -> None:
    grid = RECIPES["gli-post"].grid
    assert (grid.shape, nib.aff2axcodes(np.array(grid.affines[0]))) == ((182, 218, 182), ("L", "A", "S"))
    assert all(n <= m for n, m in zip(grid.max_shape, grid.shape, strict=True))
    other = grid.with_shape(SHAPE)
    assert (other.shape, other.affines, other.max_shape) == (SHAPE, grid.affines, grid.max_shape)


def test_more_cases_than_a_seed_has_would_be_those_of_the_next(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cases 1001: a seed has 1000"):
        next(write_cohort(tmp_path, "gli", 1001, seed=0))
    assert not list(tmp_path.iterdir())


def test_anatomy_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.*--anatomy"):
        list(write_cohort(tmp_path, "gli", 1, seed=0, anatomy=str(tmp_path / "nowhere")))


def test_what_is_there_and_is_something_else_is_not_written_over(tmp_path: Path) -> None:
    """IDs of phantoms may be those of real cases, whose folder it may be."""
    shape = (30, 34, 26)
    first, second = write_cohort(tmp_path, "gli", 2, seed=1, shape=shape)
    assert list(write_cohort(tmp_path, "gli", 2, seed=1, shape=shape)) == [first, second], "once more is no harm"
    (tmp_path / first / f"{first}-t1n.nii.gz").unlink()
    real = tmp_path / first / f"{first}-t2w.nii.gz"
    real.write_bytes((tmp_path / second / f"{second}-t2w.nii.gz").read_bytes())
    before = real.read_bytes()
    with pytest.raises(UsageError, match=f"{first}-t2w.nii.gz: is there already"):
        list(write_cohort(tmp_path, "gli", 2, seed=1, shape=shape))
    assert real.read_bytes() == before
    assert not (tmp_path / first / f"{first}-t1n.nii.gz").exists(), "nothing of this case is written"
    real.write_bytes(b"no image")
    with pytest.raises(UsageError, match="is there already"):
        list(write_cohort(tmp_path, "gli", 1, seed=1, shape=shape))
