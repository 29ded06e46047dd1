"""Folders that are no whole case: none is lost without a word, and none is taken for a case that is none."""

from pathlib import Path

import pytest

from brats_infer.files.search.find import find_cases
from tests.case_files import touch_case
from tests.files.inputs import ID, OTHER, flatten, problems


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
    assert "patient3: holds images whose names lack the case ID" in str(found["patient3"])


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
    assert "patient3: holds images whose names lack the case ID" in str(found["patient3"])


@pytest.mark.parametrize("names", [["_T1", "_T1CE", "_T2", "_FLAIR"], ["-T1n", "-T1C", "-t2W", "-T2F"]])
def test_contrasts_in_capitals_are_known(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / f"{ID}{name}.nii.gz").touch()
    [case] = find_cases(tmp_path)
    assert [path.name for path in case.paths.values()] == [f"{ID}{name}.nii.gz" for name in names]
    assert case.problem is None


def test_images_whose_names_end_in_no_contrast_are_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch_case(tmp_path, ID)
    (tmp_path / "patient4").mkdir()
    (tmp_path / "patient4" / "patient4_axial.nii.gz").touch()
    (tmp_path / ID / "raw").mkdir()
    for name in ("t1n", "t1c", "t2w", "t2f"):
        (tmp_path / ID / "raw" / f"{name}.nii.gz").touch()
    assert problems(tmp_path) == {ID: None}
    four, one = sorted(caplog.messages, key=lambda line: "4 are" not in line)
    assert four.startswith(f"warning: 4 are left out ({tmp_path / ID}/raw/t1c.nii.gz, ")
    assert "of each: its name lacks the case ID" in four
    assert f"{tmp_path}/patient4/patient4_axial.nii.gz: is left out, its name ends in no contrast" in one


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
    (line,) = caplog.messages
    assert line.startswith(f"warning: 4 are left out ({folder}/BraTS-GLI-00001-000-brain-t1")
    assert line.endswith("of each: it seems to be made of a case beside it")


def test_a_mask_is_left_out_with_a_line_and_a_label_map_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch_case(tmp_path, ID)
    for name in ("mask.nii.gz", f"{ID}-seg.nii.gz", "t1n.txt", ".t1n.nii.gz"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / name).touch()
    assert problems(tmp_path) == {ID: None}
    (line,) = caplog.messages
    assert f"{tmp_path / 'masks' / 'mask.nii.gz'}: is left out, its name ends in no contrast" in line


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


def test_another_folder_of_a_cases_name_is_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch_case(tmp_path / "all", ID)
    for folder, names in (("bare", ("t1n", "t1c")), ("copies", (f"{ID}-t1n_n4", f"{ID}-t1c_n4"))):
        (tmp_path / folder / ID).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / ID / f"{name}.nii.gz").touch()
    assert problems(tmp_path) == {ID: None}
    assert f"{tmp_path / 'bare' / ID}: is left out, it holds images whose names lack the case ID" in caplog.text
    assert f"{tmp_path / 'copies' / ID / ID}-t1n_n4.nii.gz: is left out, " in caplog.text


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
