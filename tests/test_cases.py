"""From folders of files to cases: what is accepted, ignored and refused."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_infer.cases import Case, find_cases, is_safe_id, parse_name
from brats_infer.errors import NoCasesError, UsageError
from tests.case_files import NAMES_2021, NAMES_2023, touch_case

ID = "BraTS-GLI-00001-000"
OTHER = "BraTS-GLI-00002-000"
MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


def only(cases: list[Case]) -> Case:
    (case,) = cases
    return case


def problems(folder: Path, task: str = "auto") -> dict[str, str | None]:
    return {case.id: case.problem for case in find_cases(folder, task)}


def flatten(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.rename(folder / path.name)


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
    with pytest.raises(UsageError, match="met"):
        find_cases(tmp_path, "met")


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


def test_an_empty_folder_named_like_a_case_fails_and_is_not_dropped(tmp_path: Path) -> None:
    touch_case(tmp_path, ID)
    (tmp_path / OTHER).mkdir()
    (tmp_path / OTHER / f"{OTHER}-seg.nii.gz").touch()
    found = problems(tmp_path)
    assert found[ID] is None
    assert "holds no image" in str(found[OTHER])


def test_a_case_folder_with_images_of_another_case_alone_fails_and_is_not_dropped(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    folder.rename(tmp_path / OTHER)
    found = problems(tmp_path)
    assert found[ID] is None
    assert f"holds images of {ID}, not its own" in str(found[OTHER])


@pytest.mark.parametrize("ending", [".NII.GZ", ".Nii", ".nii.GZ"])
def test_an_ending_in_capitals_is_a_case_and_not_dropped(tmp_path: Path, ending: str) -> None:
    touch_case(tmp_path, OTHER)
    for path in touch_case(tmp_path, ID).iterdir():
        path.rename(path.with_name(path.name.removesuffix(".nii.gz") + ending))
    assert problems(tmp_path) == {ID: None, OTHER: None}


@pytest.mark.parametrize("name", ["t1n.nii.gz", "FLAIR.nii", "t1ce.NII.GZ"])
def test_a_folder_of_images_without_an_id_fails_and_is_not_dropped(tmp_path: Path, name: str) -> None:
    touch_case(tmp_path, ID)
    (tmp_path / "patient3").mkdir()
    (tmp_path / "patient3" / name).touch()
    found = problems(tmp_path)
    assert found[ID] is None
    assert "patient3: its images' names lack the case ID" in str(found["patient3"])


def test_images_without_an_id_in_a_folder_of_a_case_are_its_own_business(tmp_path: Path) -> None:
    raw = touch_case(tmp_path, ID) / "raw"
    raw.mkdir()
    (raw / "t1n.nii.gz").touch()
    deeper = tmp_path / ID / "freesurfer" / "mri"
    deeper.mkdir(parents=True)
    (deeper / "T1.nii.gz").touch()
    assert problems(tmp_path) == {ID: None}
    assert problems(tmp_path / ID) == {ID: None}


def test_a_folder_of_images_without_an_id_beside_many_cases_in_one_folder_fails(tmp_path: Path) -> None:
    touch_case(tmp_path, ID)
    touch_case(tmp_path, OTHER)
    flatten(tmp_path)
    (tmp_path / "patient3").mkdir()
    for name in ("t1n", "t1c", "t2w", "t2f"):
        (tmp_path / "patient3" / f"{name}.nii.gz").touch()
    found = problems(tmp_path)
    assert (found[ID], found[OTHER]) == (None, None)
    assert "patient3: its images' names lack the case ID" in str(found["patient3"])


@pytest.mark.parametrize("names", [["_T1", "_T1CE", "_T2", "_FLAIR"], ["-T1n", "-T1C", "-t2W", "-T2F"]])
def test_contrasts_in_capitals_are_known(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{ID}{name}.nii.gz").touch()
    [case] = find_cases(tmp_path)
    assert [path.name for path in case.paths.values()] == [f"{ID}{name}.nii.gz" for name in names]
    assert case.problem is None


def test_a_folder_of_images_whose_names_end_in_no_contrast_is_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch_case(tmp_path, ID)
    (tmp_path / "patient4").mkdir()
    for name in ("t1w", "t1gd", "t2w-brain", "fl"):
        (tmp_path / "patient4" / f"patient4_{name}.nii.gz").touch()
    (tmp_path / "patient5").mkdir()
    for name in ("t1", "t1ce"):
        (tmp_path / "patient5" / f"patient5-{name}.nii.gz").touch()
    (tmp_path / ID / "raw").mkdir()
    for name in ("t1n", "t1c", "t2w", "t2f"):
        (tmp_path / ID / "raw" / f"{name}.nii.gz").touch()
    assert problems(tmp_path) == {ID: None}
    told = dict(zip((f"{ID}/raw", "patient4", "patient5"), caplog.messages, strict=True))
    assert all(f"{name}: is left out, its images' names " in line for name, line in told.items())
    assert ["lack the case ID" in line for line in told.values()] == [True, False, False]


def test_a_folder_without_an_image_beside_those_of_cases_is_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch_case(tmp_path / "site", ID)
    (tmp_path / "Brats18_CBICA_AAB_1" / "deeper").mkdir(parents=True)
    (tmp_path / "Brats18_CBICA_AAB_1" / "deeper" / "notes.txt").touch()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{ID}-seg.nii.gz").touch()
    assert problems(tmp_path) == {ID: None}
    (line,) = caplog.messages
    assert "Brats18_CBICA_AAB_1: is left out, it holds no image" in line


@pytest.mark.parametrize("task", ["auto", "gli"])
def test_files_made_of_a_cases_own_are_no_case_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, task: str
) -> None:
    """With `--on-error blank` they would add a map to the output folder."""
    folder = touch_case(tmp_path, "BraTS-GLI-00001-000")
    touch_case(tmp_path, "BraTS-GLI-00001-001")
    for name in ("-t1c", "-t1n"):
        (folder / f"BraTS-GLI-00001-000-brain{name}.nii.gz").touch()
        (folder / f"BraTS-GLI-00001-000_n4{name}.nii.gz").touch()
    assert [case.id for case in find_cases(tmp_path, task)] == ["BraTS-GLI-00001-000", "BraTS-GLI-00001-001"]
    assert sorted(caplog.messages) == [
        f"{folder}/BraTS-GLI-00001-000{name}: is left out, its name adds to that of a case beside it"
        for name in ("-brain", "_n4")
    ]


def test_a_folder_of_masks_is_left_out_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch_case(tmp_path, ID)
    for name in ("mask.nii.gz", f"{ID}-seg.nii.gz", "t1n.txt", ".t1n.nii.gz"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / name).touch()
    assert problems(tmp_path) == {ID: None}
    assert not caplog.messages


def test_a_case_folder_may_hold_its_images_one_level_deeper(tmp_path: Path) -> None:
    touch_case(tmp_path / ID, ID)
    assert problems(tmp_path) == {ID: None}


def test_a_folder_of_labels_beside_that_of_images_is_no_second_case(tmp_path: Path) -> None:
    touch_case(tmp_path / "images", ID)
    (tmp_path / "labels" / ID).mkdir(parents=True)
    (tmp_path / "labels" / ID / f"{ID}-seg.nii.gz").touch()
    assert problems(tmp_path) == {ID: None}


def test_a_case_folder_itself_can_be_the_input(tmp_path: Path) -> None:
    assert problems(touch_case(tmp_path, ID)) == {ID: None}


def test_two_cases_of_one_output_name_are_both_refused_and_both_named(tmp_path: Path) -> None:
    touch_case(tmp_path / "site-a", ID)
    touch_case(tmp_path / "site-b", ID)
    touch_case(tmp_path, OTHER)
    cases = find_cases(tmp_path)
    assert [case.id for case in cases] == [ID, ID, OTHER]
    for case in cases[:2]:
        assert str(tmp_path / "site-a" / ID) in str(case.problem)
        assert str(tmp_path / "site-b" / ID) in str(case.problem)
    assert cases[2].problem is None


def test_names_that_differ_only_in_capitals_clash(tmp_path: Path) -> None:
    touch_case(tmp_path, "Patient")
    touch_case(tmp_path, "patient")
    found = problems(tmp_path, "gli")
    assert all("Patient" in str(p) and "patient" in str(p) and "one" in str(p) for p in found.values())
    assert len(found) == 2


def test_a_folder_without_ids_whose_name_differs_only_in_capitals_clashes_too(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, "Patient")
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "t1n.nii.gz").touch()
    found = problems(tmp_path, "gli")
    assert len(found) == 2
    assert all(f"{folder} and patient would all be written to one" in str(problem) for problem in found.values())


def test_contrasts_of_a_case_in_folders_of_their_own_are_named(tmp_path: Path) -> None:
    for modality in ("t1n", "t1c", "t2w", "t2f"):
        (tmp_path / modality).mkdir()
        (tmp_path / modality / f"{ID}-{modality}.nii.gz").touch()
    assert f"{ID}: its contrasts lie in 4 folders" in str(problems(tmp_path)[ID])
    assert " and ".join(str(tmp_path / name) for name in ("t1c", "t1n", "t2f", "t2w")) in str(problems(tmp_path)[ID])


def test_contrasts_of_a_case_whose_ids_differ_in_capitals_are_named(tmp_path: Path) -> None:
    for path in touch_case(tmp_path, ID).iterdir():
        if path.name.endswith("-t2w.nii.gz"):
            path.rename(path.with_name(f"{ID.upper()}-t2w.nii.gz"))
    for problem in problems(tmp_path).values():
        assert str(problem).startswith(f"{tmp_path / ID}: the IDs of one case's contrasts are not the same (")
        assert f"{ID}, {ID.upper()}" in str(problem) or f"{ID.upper()}, {ID}" in str(problem)


UNSAFE = ["..", "a..b", "a\nb", "a b", "é", "脳", "-rf", "a" * 129, "a;b", "a\\b", "\udcff", "~", "%2e%2e", "a:b"]


@pytest.mark.parametrize("case_id", UNSAFE)
def test_an_id_that_is_no_plain_file_name_is_refused(tmp_path: Path, case_id: str) -> None:
    assert not is_safe_id(case_id)
    touch_case(tmp_path, ID)
    for name in NAMES_2023.values():
        (tmp_path / f"{case_id}{name}.nii.gz").touch()
    found = {key: value for key, value in problems(tmp_path).items() if key != ID}
    if case_id == "..":  # a hidden file
        assert found == {}
    else:
        problem = str(found[case_id])
        assert "cannot be a file name" in problem
        assert problem.isprintable()
        assert len(problem) < len(str(tmp_path)) + 160


def test_an_unsafe_id_alone_fails_as_a_case_and_not_as_wrong_usage(tmp_path: Path) -> None:
    for name in NAMES_2023.values():
        (tmp_path / f"a b{name}.nii.gz").touch()
    assert "cannot be a file name" in str(problems(tmp_path)["a b"])


@given(st.text(max_size=140))
def test_a_safe_id_stays_inside_the_output_folder(case_id: str) -> None:
    if is_safe_id(case_id):
        target = Path("/out") / f"{case_id}.nii.gz"
        assert Path(os.path.normpath(target)).parent == Path("/out")
        assert target.name == f"{case_id}.nii.gz"
        assert case_id.isascii()
        assert case_id.isprintable()
        assert len(target.name) < 255


@given(st.text(min_size=1, max_size=20), st.sampled_from([*NAMES_2023.items(), *NAMES_2021.items()]))
def test_a_name_is_taken_apart_into_what_it_was_made_of(case_id: str, modality: tuple[str, str]) -> None:
    name, suffix = modality
    expected = None if case_id.startswith(".") else (case_id, name)
    assert parse_name(f"{case_id}{suffix}.nii.gz") == expected
    assert parse_name(f"{case_id}{suffix}.nii") == expected
    assert parse_name(f"{case_id}{suffix}.nrrd") is None
    assert parse_name(f"{case_id}{suffix}") is None


def test_a_linked_file_may_not_leave_the_input(tmp_path: Path) -> None:
    outside = touch_case(tmp_path / "outside", ID)
    folder = touch_case(tmp_path / "in", ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").symlink_to(outside / f"{ID}-t1c.nii.gz")
    case = only(find_cases(tmp_path / "in"))
    assert "leaves the input folder" in str(case.problem)
    assert f"{ID}-t1c.nii.gz" in str(case.problem)
    assert "t1c" not in case.paths  # so that not even its header is read


def test_a_folder_whose_name_only_begins_like_the_inputs_is_outside(tmp_path: Path) -> None:
    outside = touch_case(tmp_path / "input-2", ID)
    folder = touch_case(tmp_path / "input", ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").symlink_to(outside / f"{ID}-t1c.nii.gz")
    assert "leaves the input folder" in str(problems(tmp_path / "input")[ID])


def test_a_linked_file_inside_the_input_is_followed(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    (tmp_path / ".store").mkdir()
    (folder / f"{ID}-t1c.nii.gz").rename(tmp_path / ".store" / "content")
    (folder / f"{ID}-t1c.nii.gz").symlink_to(Path("..") / ".store" / "content")
    assert problems(tmp_path) == {ID: None}


def test_links_that_lead_nowhere_or_in_circles_stop_no_other_case(tmp_path: Path) -> None:
    touch_case(tmp_path, OTHER)
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").symlink_to(folder / f"{ID}-t1c.nii.gz")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert problems(tmp_path)[OTHER] is None


@pytest.mark.parametrize("target_exists", [True, False])
def test_a_linked_case_folder_is_not_followed_and_not_dropped(tmp_path: Path, target_exists: bool) -> None:
    outside = touch_case(tmp_path / "outside", ID)
    touch_case(tmp_path / "in", OTHER)
    (tmp_path / "in" / ID).symlink_to(outside)
    if not target_exists:
        shutil.rmtree(outside)
    found = problems(tmp_path / "in")
    assert found[OTHER] is None
    assert "is a link, which is not followed" in str(found[ID])


def test_a_linked_folder_of_any_other_name_is_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch_case(tmp_path / "in", ID)
    (tmp_path / "in" / "patient7").symlink_to(touch_case(tmp_path / "outside", "patient7"))
    assert problems(tmp_path / "in") == {ID: None}
    assert "patient7: is left out, it is a link" in caplog.text


def test_a_link_to_a_case_that_is_found_anyway_changes_nothing(tmp_path: Path) -> None:
    folder = touch_case(tmp_path / "all", ID)
    (tmp_path / "selected").mkdir()
    (tmp_path / "selected" / ID).symlink_to(folder)
    assert problems(tmp_path) == {ID: None}


def test_the_input_itself_may_be_a_link(tmp_path: Path) -> None:
    touch_case(tmp_path / "data", ID)
    (tmp_path / "input").symlink_to(tmp_path / "data")
    assert problems(tmp_path / "input") == {ID: None}


def deny(monkeypatch: pytest.MonkeyPatch, denied: Path) -> None:
    """As if the folder were another user's; root, who often runs tests, can read any."""
    scandir = os.scandir

    def guarded(path):
        if Path(path) == denied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_an_unreadable_input_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, tmp_path)
    with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\)"):
        find_cases(tmp_path)


def test_an_unreadable_case_folder_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch_case(tmp_path, ID)
    deny(monkeypatch, touch_case(tmp_path, OTHER))
    found = problems(tmp_path)
    assert found[ID] is None
    assert "Permission denied" in str(found[OTHER])


def test_an_unreadable_folder_that_is_no_case_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch_case(tmp_path, ID)
    (tmp_path / "lost+found").mkdir()
    deny(monkeypatch, tmp_path / "lost+found")
    assert problems(tmp_path) == {ID: None}
    assert "lost+found" in caplog.text


def test_cases_come_in_the_same_order_whatever_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for site in ("b", "a"):
        for case_id in (OTHER, ID):
            touch_case(tmp_path / site, case_id)
    scandir = os.scandir

    class Disk:
        backwards = False

        def __init__(self, path) -> None:
            with scandir(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=self.backwards))

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None: ...

        def __iter__(self):
            return self.entries

        def __next__(self):
            return next(self.entries)

        def close(self) -> None: ...

    monkeypatch.setattr(os, "scandir", Disk)
    expected = find_cases(tmp_path)
    monkeypatch.setattr(Disk, "backwards", True)
    assert find_cases(tmp_path) == expected


def test_the_real_cases_are_found(shared: Path) -> None:
    gli, ssa = find_cases(shared / "cases" / "gli" / "images"), find_cases(shared / "cases" / "ssa" / "images")
    assert [case.id for case in gli] == [f"BraTS-GLI-{number}-000" for number in range(90001, 90011)]
    assert {case.task.name for case in ssa if case.task} == {"ssa"}
    assert not [case.problem for case in gli + ssa if case.problem]
