"""Finding cases: names and layouts of all years, and which task is whose."""

from pathlib import Path

import pytest

from brats_infer.errors import NoCasesError, UsageError
from brats_infer.files.search.find import find_cases
from tests.case_files import NAMES_2021, NAMES_2023, touch_case
from tests.files.inputs import ID, MODALITIES, OTHER, flatten, only, problems


@pytest.mark.parametrize("names", [NAMES_2023, NAMES_2021], ids=["2023", "2021"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("flat", [False, True])
def test_nested_and_flat_layouts_of_2018_to_2023_are_found(
    tmp_path: Path, names: dict[str, str], ending: str, flat: bool
) -> None:
    for path in touch_case(tmp_path, ID, names).iterdir():
        path.rename(path.with_name(path.name.replace(".nii.gz", ending)))
    if flat:
        flatten(tmp_path)
    case = only(find_cases(tmp_path))
    folder = tmp_path if flat else tmp_path / ID
    assert case.problem is None
    assert case.task is not None
    assert (case.id, case.task.name, case.output_name) == (ID, "gli", f"{ID}.nii.gz")
    assert case.paths == {modality: folder / f"{ID}{names[modality]}{ending}" for modality in MODALITIES}


def test_paths_come_in_the_order_of_the_networks_channels(tmp_path: Path) -> None:
    touch_case(tmp_path, ID, dict(reversed(NAMES_2021.items())))
    assert list(only(find_cases(tmp_path)).paths) == MODALITIES


def test_names_of_both_kinds_and_endings_may_mix_within_a_case(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}-t1c.nii.gz").rename(folder / f"{ID}_t1ce.nii")
    assert only(find_cases(tmp_path)).problem is None


def test_cases_of_several_challenges_each_get_their_own_task_sorted_by_id(tmp_path: Path) -> None:
    ids = ["BraTS-SSA-00002-000", "BraTS-MEN-00004-000", "BraTS2021_00495", ID]
    for case_id in ids:
        touch_case(tmp_path, case_id)
    found = [(case.id, case.task.name) for case in find_cases(tmp_path) if case.task]
    assert found == [(ID, "gli"), (ids[1], "men"), (ids[0], "ssa"), (ids[2], "gli")]


def test_a_given_task_takes_cases_of_any_id(tmp_path: Path) -> None:
    touch_case(tmp_path, "Brats18_2013_20_1", NAMES_2021)
    case = only(find_cases(tmp_path, "men"))
    assert case.task is not None
    assert (case.task.name, case.problem) == ("men", None)


def test_ids_that_tell_nothing_ask_for_a_task(tmp_path: Path) -> None:
    touch_case(tmp_path, "patient7")
    with pytest.raises(UsageError, match=r"patient7.*--task gli\|ssa\|men"):
        find_cases(tmp_path)
    touch_case(tmp_path, ID)
    found = problems(tmp_path)
    assert found[ID] is None
    assert "--task" in str(found["patient7"])


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="abc"):
        find_cases(tmp_path, "abc")


def test_files_that_are_no_images_are_ignored(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    junk = (
        f"._{ID}-t1n.nii.gz",
        ".DS_Store",
        "Thumbs.db",
        f"{ID}-seg.nii.gz",
        f"{ID}_seg.nii",
        "notes.txt",
        "-t1n.nii",
    )
    for name in junk:
        (folder / name).touch()
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX" / ID).mkdir(parents=True)
    (tmp_path / "__MACOSX" / ID / f"._{ID}-t1n.nii.gz").touch()
    touch_case(tmp_path / ".hidden", OTHER)
    assert problems(tmp_path) == {ID: None}


def test_a_missing_modality_is_named_with_what_was_found(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}-t2f.nii.gz").unlink()
    (folder / f"{ID}-t1n.nii.gz").unlink()
    problem = str(problems(tmp_path)[ID])
    assert "lacks t1n, t2f" in problem
    assert f"{ID}-t1c.nii.gz" in problem
    assert f"{ID}-t2w.nii.gz" in problem


@pytest.mark.parametrize("twin", ["_t1ce.nii.gz", "-t1c.nii"])
def test_a_modality_that_is_there_twice_is_refused_with_both_names(tmp_path: Path, twin: str) -> None:
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}{twin}").touch()
    problem = str(problems(tmp_path)[ID])
    assert "t1c twice" in problem
    assert f"{ID}-t1c.nii.gz" in problem
    assert f"{ID}{twin}" in problem


@pytest.mark.parametrize("content", [(), ("notes.txt",), ("a/b/c.nii.gz",)])
def test_a_folder_without_cases_says_what_is_expected(tmp_path: Path, content: tuple[str, ...]) -> None:
    for name in content:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(NoCasesError, match=r"holds no case: expected \{ID\}/\{ID\}-t1n"):
        find_cases(tmp_path)


@pytest.mark.parametrize("task", ["auto", "gli"])
def test_a_missing_folder_and_a_file_are_no_input(tmp_path: Path, task: str) -> None:
    (tmp_path / "file").touch()
    for name in ("absent", "file", "file/below"):
        with pytest.raises(UsageError, match="is not a folder"):
            find_cases(tmp_path / name, task)
