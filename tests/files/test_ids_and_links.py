"""What may become a file name, links, and folders that cannot be read."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_infer.errors import UsageError
from brats_infer.files.cases import is_safe_id
from brats_infer.files.search.find import find_cases
from brats_infer.files.search.names import Name, Rank, parse_stem, stem_of
from brats_infer.files.search.tree import Links
from tests.case_files import NAMES_2021, NAMES_2023, touch_case
from tests.files.inputs import ID, OTHER, only, problems

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
    stem = f"{case_id}{suffix}"
    assert parse_stem(stem) == Name(case_id, name, Rank.OFFICIAL)
    expected = None if case_id.startswith(".") else stem
    assert stem_of(f"{stem}.nii.gz") == stem_of(f"{stem}.nii") == expected
    assert stem_of(f"{stem}.nrrd") is stem_of(stem) is None


def linked_case(root: Path) -> Path:
    """A case folder in `root/in`, one image of which is a link to a file in `root/outside`."""
    outside = touch_case(root / "outside", ID)
    folder = touch_case(root / "in", ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").symlink_to(outside / f"{ID}-t1c.nii.gz")
    return folder


def test_a_blind_run_reads_no_linked_file_outside_the_input(tmp_path: Path) -> None:
    linked_case(tmp_path)
    case = only(find_cases(tmp_path / "in", links=Links.INSIDE))
    assert "leaves the input folder" in str(case.problem)
    assert f"{ID}-t1c.nii.gz" in str(case.problem)
    assert "t1c" not in case.paths  # so that not even its header is read


def test_a_folder_whose_name_only_begins_like_the_inputs_is_outside(tmp_path: Path) -> None:
    outside = touch_case(tmp_path / "input-2", ID)
    folder = touch_case(tmp_path / "input", ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").symlink_to(outside / f"{ID}-t1c.nii.gz")
    (case,) = find_cases(tmp_path / "input", links=Links.INSIDE)
    assert "leaves the input folder" in str(case.problem)


def test_ones_own_folder_of_links_is_followed(tmp_path: Path) -> None:
    """Row 18: files of DataLad, and curated folders of linked cases."""
    folder = linked_case(tmp_path)
    curated = tmp_path / "curated"
    curated.mkdir()
    (curated / ID).symlink_to(folder)
    (curated / OTHER).symlink_to(touch_case(tmp_path / "elsewhere", OTHER))
    cases = find_cases(curated)
    assert [(case.id, case.problem) for case in cases] == [(ID, None), (OTHER, None)]
    assert cases[0].paths["t1c"] == curated / ID / f"{ID}-t1c.nii.gz"


@pytest.mark.parametrize("links", Links)
def test_a_linked_file_inside_the_input_is_followed(tmp_path: Path, links: Links) -> None:
    folder = touch_case(tmp_path, ID)
    (tmp_path / ".store").mkdir()
    (folder / f"{ID}-t1c.nii.gz").rename(tmp_path / ".store" / "content")
    (folder / f"{ID}-t1c.nii.gz").symlink_to(Path("..") / ".store" / "content")
    assert only(find_cases(tmp_path, links=links)).problem is None


@pytest.mark.parametrize("links", Links)
def test_links_that_lead_nowhere_or_in_circles_stop_no_other_case(tmp_path: Path, links: Links) -> None:
    touch_case(tmp_path / "in", OTHER)
    folder = touch_case(tmp_path / "in", ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").symlink_to(folder / f"{ID}-t1c.nii.gz")
    (tmp_path / "in" / "circle").symlink_to(tmp_path)
    (tmp_path / "in" / "one").symlink_to(tmp_path / "in" / "other")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "in" / "one")
    found = {case.id: case for case in find_cases(tmp_path / "in", links=links)}
    assert list(found) == [ID, OTHER]
    assert found[OTHER].problem is None


@pytest.mark.parametrize("links", Links)
@pytest.mark.parametrize("target_exists", [True, False])
def test_a_linked_case_folder_is_followed_or_fails_and_is_not_dropped(
    tmp_path: Path, target_exists: bool, links: Links
) -> None:
    outside = touch_case(tmp_path / "outside", ID)
    touch_case(tmp_path / "in", OTHER)
    (tmp_path / "in" / ID).symlink_to(outside)
    if not target_exists:
        shutil.rmtree(outside)
    found = {case.id: case.problem for case in find_cases(tmp_path / "in", links=links)}
    assert found[OTHER] is None
    followed = links is Links.FOLLOW and target_exists
    reason = "is a link, which is not followed" if target_exists else "is a link that leads nowhere"
    assert found[ID] is None if followed else reason in str(found[ID])


def test_a_linked_folder_of_any_other_name_is_left_out_of_a_blind_run_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch_case(tmp_path / "in", ID)
    (tmp_path / "in" / "patient7").symlink_to(touch_case(tmp_path / "outside", "patient7"))
    assert [case.id for case in find_cases(tmp_path / "in", links=Links.INSIDE)] == [ID]
    assert "patient7: is left out, it is a link, which is not followed" in caplog.text


@pytest.mark.parametrize("names", [("all", "selected"), ("z-all", "selected")])
def test_a_link_to_a_case_that_is_found_anyway_changes_nothing(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = touch_case(tmp_path / names[0], ID)
    (tmp_path / names[1]).mkdir()
    (tmp_path / names[1] / ID).symlink_to(folder)
    case = only(find_cases(tmp_path))
    assert case.problem is None
    assert case.paths["t1n"].parent == folder


def test_a_link_under_the_name_of_another_case_fails_and_is_not_dropped(tmp_path: Path) -> None:
    (tmp_path / OTHER).symlink_to(touch_case(tmp_path, ID))
    found = problems(tmp_path)
    assert found[ID] is None
    assert f"{OTHER}: is a link to {tmp_path / ID}, which is read under that name" in str(found[OTHER])


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
