"""Which label maps of two folders belong together, whatever their names and wherever they lie."""

import os
from pathlib import Path

import pytest

from brats_infer.errors import UsageError
from brats_infer.evaluate import evaluate_folders
from brats_infer.evaluate.pairs import REFERENCE_ENDINGS, find_labels, find_pairs
from brats_infer.tasks import task_named
from tests.evaluate.small_cohort import IDS, labels, write_cohort, write_map


@pytest.mark.parametrize("name", ["-seg.nii", "_seg.nii.gz", "_seg.nii", "-SEG.NII.GZ"])
def test_names_of_other_years_and_files_without_gzip_are_found(tmp_path: Path, name: str) -> None:
    predictions, references = write_cohort(tmp_path)
    plain = evaluate_folders(predictions, references, task_named("gli"), jobs=1)
    for number, case_id in enumerate(IDS):
        (references / f"{case_id}-seg.nii.gz").unlink()
        write_map(references / f"{case_id}{name.lower()}", labels(number))
        (references / f"{case_id}{name.lower()}").rename(references / f"{case_id}{name}")
    (predictions / f"{IDS[0]}.nii.gz").unlink()
    write_map(predictions / f"{IDS[0]}.nii", labels(0, shift=1))
    assert evaluate_folders(predictions, references, task_named("gli"), jobs=1) == plain


def test_folders_are_searched_to_their_bottom_and_behind_links(tmp_path: Path) -> None:
    predictions, references = write_cohort(tmp_path)
    (references / "batch" / "first").mkdir(parents=True)
    deep = references / "batch" / "first" / f"{IDS[0]}-seg.nii.gz"
    (references / deep.name).rename(deep)
    aside = tmp_path / "aside"
    aside.mkdir()
    (references / f"{IDS[1]}-seg.nii.gz").rename(aside / f"{IDS[1]}-seg.nii.gz")
    (references / IDS[1]).symlink_to(aside)
    found = find_pairs(predictions, references)
    assert [pair.id for pair in found] == list(IDS)
    assert found[0].reference == deep
    assert found[1].reference == references / IDS[1] / f"{IDS[1]}-seg.nii.gz"


def test_links_in_a_circle_and_hidden_files_are_passed_by(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "again").symlink_to(tmp_path)
    (tmp_path / ".hidden").mkdir()
    for name in ("a-seg.nii.gz", "case/._b-seg.nii.gz", ".hidden/c-seg.nii.gz", "case/d-seg.nii.gz", "e-seg.txt"):
        (tmp_path / name).touch()
    assert sorted(find_labels(tmp_path, REFERENCE_ENDINGS)) == ["a", "d"]


def test_two_maps_of_a_case_are_both_named(tmp_path: Path) -> None:
    for name in ("a-seg.nii.gz", "a_seg.nii"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"a_seg\.nii: is a second label map of a, beside .*a-seg\.nii\.gz"):
        find_labels(tmp_path, REFERENCE_ENDINGS)


def test_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: cannot be read"):
        find_labels(tmp_path / "pipe", REFERENCE_ENDINGS)
