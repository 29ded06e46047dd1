"""Layouts that people have: each is taken if its names are unambiguous, else the message names a file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from brats_infer.errors import CaseError, NoCasesError, UsageError
from brats_infer.files.nifti import read_volume
from brats_infer.files.search.find import find_cases
from brats_infer.files.search.groups import search
from brats_infer.files.search.layouts import NOT_WANTED
from brats_infer.files.search.names import Name, Rank, contrast_named, parse_stem
from brats_infer.files.search.tree import Links
from tests.case_files import NAMES_2021, touch_case
from tests.files.inputs import ID, MODALITIES, only, problems


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names_of(folder: Path, task: str = "gli") -> dict[str, str]:
    """{contrast: file name} of the only case, which has no problem."""
    case = only(find_cases(folder, task))
    assert case.problem is None
    return {contrast: path.name for contrast, path in case.paths.items()}


FIELD = {
    "UPENN": ("UPENN-GBM-00001_11", ("_T1", "_T1GD", "_T2", "_FLAIR")),
    "UCSF": ("UCSF-PDGM-0004", ("_T1", "_T1c", "_T2", "_FLAIR")),
    "FeTS": ("Patient_001_brain", ("_t1", "_t1gd", "_t2", "_flair")),
    "2023 names behind _": (ID, ("_t1n", "_t1c", "_t2w", "_t2f")),
    "2021 names behind -": (ID, ("-t1", "-t1ce", "-t2", "-flair")),
    "dots": ("patient.7", (".T1", ".T1ce", ".T2", ".FLAIR")),
    "BIDS": ("sub-01_ses-1", ("_T1w", "_ce-gd_T1w", "_T2w", "_FLAIR")),
    "BIDS, gadolinium": ("sub-01", ("_T1w", "_ce-gadolinium_T1w", "_T2w", "_FLAIR")),
    "two words": ("patient7", ("_t1", "_t1_gd", "_t2", "_t2_flair")),
    "a copy": (ID, ("-t1n", "-t1c (1)", "-t2w", "-t2f")),
    "all processed": ("patient4", ("_t1_brain", "_t1ce_brain", "_t2_brain", "_flair_brain")),
    "CaPTk": ("patient4", ("_T1_to_SRI_brain", "_T1CE_to_SRI_brain", "_T2_to_SRI_brain", "_FL_to_SRI_brain")),
    "one processed": ("UCSF-PDGM-0004", ("_T1_bias", "_T1c", "_T2", "_FLAIR")),
    "no separator": ("Brats17", ("T1", "T1CE", "T2", "FLAIR")),
}


@pytest.mark.parametrize("kind", [kind for kind in FIELD if kind != "CaPTk"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".NII.GZ"])
def test_contrast_names_of_the_field_are_taken(tmp_path: Path, kind: str, ending: str) -> None:
    case_id, suffixes = FIELD[kind]
    names = [f"{case_id}{suffix}{ending}" for suffix in suffixes]
    touch(tmp_path, *(f"{case_id}/{name}" for name in names))
    case = only(find_cases(tmp_path, "gli"))
    assert (case.id, case.problem) == (case_id, None)
    assert {contrast: path.name for contrast, path in case.paths.items()} == dict(zip(MODALITIES, names, strict=True))


def test_a_contrast_under_an_unknown_name_is_named_with_its_new_name(tmp_path: Path) -> None:
    case_id, suffixes = FIELD["CaPTk"]
    folder = touch(tmp_path / case_id, *(f"{case_id}{suffix}.nii.gz" for suffix in suffixes[:3]), f"{case_id}_FL.nii")
    touch(folder, f"{case_id}_t1n.nii", f"{case_id}_t1ce.nii", f"{case_id}_t2.nii")
    problem = str(problems(tmp_path, "gli")[case_id])
    assert f"lacks t2f (found {case_id}_t1n.nii, {case_id}_t1ce.nii, {case_id}_t2.nii): " in problem
    assert f"{case_id}_FL.nii is under a name that is not known: rename it to {case_id}-t2f.nii.gz if it is" in problem


def test_the_file_that_speaks_of_the_lacking_contrast_is_named_and_no_other(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}-t1c.nii.gz").rename(folder / f"{ID}-t1c-unstripped.nii.gz")
    touch(folder, "mask.nii.gz", f"{ID}-t2w.mha")
    (folder / f"{ID}-t2w.nii.gz").unlink()
    problem = str(problems(tmp_path)[ID])
    assert "lacks t1c, t2w" in problem
    assert f"{ID}-t1c-unstripped.nii.gz is under a name that is not known: rename it to {ID}-t1c.nii.gz" in problem
    assert f"{ID}-t2w.mha is no NIfTI file: convert" in problem
    assert "mask" not in problem


def test_two_files_that_may_be_the_lacking_contrast_are_not_guessed_between(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}-t1c.nii.gz").rename(folder / f"{ID}-t1c (1).nii.gz")
    touch(folder, f"{ID}-t1c (2).nii.gz")
    problem = str(problems(tmp_path)[ID])
    assert "lacks t1c" in problem
    assert "t1c (1).nii.gz is under a name" in problem
    assert "t1c (2).nii.gz is under a name" in problem


def test_processed_copies_beside_a_whole_case_change_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    case_id, suffixes = FIELD["UCSF"]
    touch(tmp_path, *(f"{case_id}/{case_id}{suffix}{more}.nii.gz" for suffix in suffixes for more in ("", "_bias")))
    touch(tmp_path, *(f"derived/{case_id}{suffix}_bias.nii.gz" for suffix in suffixes))
    assert all("bias" not in name for name in names_of(tmp_path).values())
    (line,) = caplog.messages
    assert line.startswith("warning: 8 are left out (")


def test_names_of_the_challenges_win_over_others(tmp_path: Path) -> None:
    folder = touch_case(tmp_path, ID, NAMES_2021)
    touch(folder, f"{ID}_T1w.nii.gz", f"{ID}_t1gd.nii.gz")
    touch(tmp_path / "again", *(f"{ID}_{name}.nii.gz" for name in ("T1w", "T1GD", "T2w", "T2f")))
    assert set(names_of(tmp_path).values()) == {f"{ID}{suffix}.nii.gz" for suffix in NAMES_2021.values()}


def test_two_names_of_the_field_for_one_contrast_are_refused_with_both(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p/p_{name}.nii.gz" for name in ("t1", "t1gd", "t1_gad", "t2", "flair")))
    assert "has t1c twice (p_t1_gad.nii.gz, p_t1gd.nii.gz)" in str(problems(tmp_path, "gli")["p"])


def test_one_bids_subject_with_another_entity_is_one_failing_case(tmp_path: Path) -> None:
    touch(tmp_path / "sub-01" / "anat", *(f"sub-01_{name}.nii.gz" for name in ("T1w", "acq-gd_T1w", "T2w", "FLAIR")))
    (problem,) = problems(tmp_path, "gli").values()
    assert "sub-01 lacks t1c" in str(problem)
    assert "sub-01_acq-gd_T1w.nii.gz is under a name that is not known" in str(problem)


def test_words_run_together_that_make_no_case_are_no_case(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch_case(tmp_path, ID)
    touch(tmp_path, "output1.nii.gz", "cut2.nii.gz", "atlas_T1w.nii.gz")
    assert problems(tmp_path, "gli") == {ID: None}
    assert all(name in " ".join(caplog.messages) for name in ("output1", "cut2", "atlas_T1w"))


@pytest.mark.parametrize("folders", [True, False])
def test_kaggles_folders_that_hold_one_image_each_are_parts_of_one_case(tmp_path: Path, folders: bool) -> None:
    """Row 8: one case, neither four nor four lines."""
    case_id = "BraTS20_Training_001"
    for number, suffix in enumerate((*NAMES_2021.values(), "_seg")):
        inner = f"0000005{number}_brain.nii" if folders else f"{case_id}{suffix}.nii"
        touch(tmp_path / case_id / f"{case_id}{suffix}.nii", inner)
    case = only(find_cases(tmp_path, "gli"))
    assert (case.id, case.problem) == (case_id, None)
    outer = {contrast: path.parent.name for contrast, path in case.paths.items()}
    assert outer == {contrast: f"{case_id}{suffix}.nii" for contrast, suffix in NAMES_2021.items()}
    assert all(path.is_file() for path in case.paths.values())


@pytest.mark.parametrize("inner", [(), ("a.nii", "b.nii")])
def test_a_folder_called_like_an_image_that_holds_none_or_two_is_named(tmp_path: Path, inner: tuple[str, ...]) -> None:
    folder = touch_case(tmp_path, ID)
    (folder / f"{ID}-t1c.nii.gz").unlink()
    (folder / f"{ID}-t1c.nii.gz").mkdir()
    touch(folder / f"{ID}-t1c.nii.gz", *inner)
    found = problems(tmp_path)
    assert list(found) == [ID]
    assert f"{ID}-t1c.nii.gz is a folder that holds no single image" in str(found[ID])


def numbered(root: Path) -> Path:
    names = [f"BRATS_00{case}_000{number}.nii.gz" for case in (1, 2) for number in range(4)]
    return touch(root / "imagesTr", *names)


def test_nnunets_numbers_are_refused_with_a_hint(tmp_path: Path) -> None:
    for task in ("gli", "auto"):
        with pytest.raises(UsageError, match=r"BRATS_001_0000 and so on tell no contrast: give --channels"):
            find_cases(numbered(tmp_path), task)
    touch_case(tmp_path, ID)
    found = problems(tmp_path, "gli")
    assert found[ID] is None
    assert [case_id for case_id, problem in found.items() if "give --channels" in str(problem)] == [
        "BRATS_001",
        "BRATS_002",
    ]


def test_nnunets_numbers_are_taken_in_the_given_order(tmp_path: Path) -> None:
    cases = find_cases(numbered(tmp_path), "gli", channels=("t2f", "t1n", "t1c", "t2w"))
    assert [(case.id, case.problem) for case in cases] == [("BRATS_001", None), ("BRATS_002", None)]
    numbers = {contrast: path.name[10:14] for contrast, path in cases[0].paths.items()}
    assert numbers == {"t2f": "0000", "t1n": "0001", "t1c": "0002", "t2w": "0003"}


CHANNELS = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}


@pytest.mark.parametrize("content", [{"channel_names": CHANNELS}, {"modality": CHANNELS}])
@pytest.mark.parametrize("start", ["", "imagesTr"])
def test_nnunets_dataset_json_tells_the_order(tmp_path: Path, content: dict[str, object], start: str) -> None:
    numbered(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cases = find_cases(tmp_path / start, "gli")
    assert [case.problem for case in cases] == [None, None]
    assert cases[0].paths["t1c"].name == "BRATS_001_0002.nii.gz"


def test_a_blind_run_reads_no_dataset_json_outside_its_input(tmp_path: Path) -> None:
    numbered(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": CHANNELS}))
    with pytest.raises(UsageError, match="give --channels"):
        find_cases(tmp_path / "imagesTr", "gli", links=Links.INSIDE)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"channel_names": {"0": "CT"}}', '{"channel_names": {"x": "T1"}}', '{"modality": 3}']
)
def test_a_dataset_json_that_tells_no_order_is_as_none(tmp_path: Path, content: str) -> None:
    (numbered(tmp_path) / "dataset.json").write_text(content)
    with pytest.raises(UsageError, match="give --channels"):
        find_cases(tmp_path, "gli")


def test_a_fifth_channel_is_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(numbered(tmp_path), "BRATS_001_0004.nii.gz")
    cases = find_cases(tmp_path, "gli", channels=("t1n", "t1c", "t2w", "t2f"))
    assert [case.problem for case in cases] == [None, None]
    assert "BRATS_001_0004.nii.gz: is left out, its number 0004 is none of the 4 channels" in caplog.text


def decathlon(folder: Path) -> Path:
    touch(folder, "imagesTr/BRATS_001.nii.gz", "imagesTr/BRATS_002.nii.gz", "labelsTr/BRATS_001.nii.gz")
    (folder / "dataset.json").write_text(json.dumps({"modality": CHANNELS}))
    return folder


def test_the_decathlons_4d_images_are_cases_with_channels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    channels = ("t2f", "t1n", "t1c", "t2w")
    one, two = find_cases(decathlon(tmp_path), "gli", channels=channels)
    assert (one.id, two.id, one.problem, one.channels) == ("BRATS_001", "BRATS_002", None, channels)
    assert one.paths == dict.fromkeys(("t1n", "t1c", "t2w", "t2f"), tmp_path / "imagesTr" / "BRATS_001.nii.gz")
    assert "labelsTr/BRATS_001.nii.gz: is left out" in caplog.text


def test_the_decathlons_4d_images_ask_for_channels(tmp_path: Path) -> None:
    with pytest.raises(NoCasesError, match=r"4-D, Medical Segmentation Decathlon\), give --channels"):
        find_cases(decathlon(tmp_path), "gli")


def test_a_stray_image_beside_numbered_ones_is_no_4d_case(tmp_path: Path) -> None:
    touch(numbered(tmp_path), "BRATS_001.nii.gz")
    cases = find_cases(tmp_path, "gli", channels=("t1n", "t1c", "t2w", "t2f"))
    assert [(case.id, case.channels) for case in cases] == [("BRATS_001", ()), ("BRATS_002", ())]


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("sub-01_ce-gd_run-1_T1w", Name("sub-01_run-1", "t1c", Rank.KNOWN)),
        ("sub-01_T1w", Name("sub-01", "t1n", Rank.KNOWN)),
        ("x_T2_FLAIR", Name("x", "t2f", Rank.KNOWN)),
        ("x-t1_mask", None),
        ("x_t1_seg", None),
        ("x_t1c_unstripped", None),
        ("t1c", None),
        ("x", None),
    ],
)
def test_a_stem_is_taken_apart(stem: str, expected: Name | None) -> None:
    assert parse_stem(stem) == expected


def test_a_word_alone_is_a_contrast_or_none() -> None:
    said = {"T1": "t1n", "T1 Gd": "t1c", "t1gd": "t1c", "FLAIR": "t2f", "T2w": "t2w", "T2-FLAIR": "t2f", "CT": None}
    assert {word: contrast_named(word) for word in said} == said


def bare(root: Path) -> Path:
    return touch(root, "flair.nii.gz", "t1.nii.gz", "t2.nii.gz", "t1c.nii.gz")


FORMATS: dict[str, tuple[Callable[[Path], object], str]] = {
    "mha": (
        lambda root: touch(root / "brats_2013_pat0001_1", "VSD.Brain.XX.O.MR_T2.685.mha", "VSD.Brain.XX.O.MR_T1.6.mha"),
        r"; 2 \.mha files \(.*\.mha\): convert them to \.nii\.gz",
    ),
    "dicom": (
        lambda root: touch(root / "PAT1" / "T1", "IM0001.dcm"),
        "; 1 DICOM files .*: give --raw, .* brats-opt prepare",
    ),
    "pairs": (
        lambda root: touch(root / "patient7", *(f"p-t1n.{ending}" for ending in ("hdr", "img"))),
        r"; 1 pairs of \.hdr and \.img \(.*p-t1n\.hdr\): convert each pair",
    ),
    "nrrd": (lambda root: touch(root, "a.nrrd"), r"; 1 \.nrrd files"),
    "zip": (lambda root: touch(root, "cases.zip"), r"; 1 \.zip archives .*unpack"),
    "bare": (bare, r"; 4 names lack the case ID \(flair\.nii\.gz, .*\): rename them, or give --t1n"),
    "names": (lambda root: touch(root / "a", "scan.nii"), r"a/scan\.nii: is left out, its name ends in no contrast"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_folder_without_a_case_says_what_lies_there_and_what_to_do(tmp_path: Path, kind: str) -> None:
    """Row 14."""
    make, message = FORMATS[kind]
    make(tmp_path)
    with pytest.raises(NoCasesError, match=r"holds no case: expected \{ID\}/\{ID\}-t1n.*" + message):
        find_cases(tmp_path, "gli")


def test_dicom_without_an_ending_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "PAT1").mkdir()
    (tmp_path / "PAT1" / "IM0001").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "PAT1" / "IM0002").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(NoCasesError, match=r"2 DICOM files .*: give --raw, .* brats-opt prepare"):
        find_cases(tmp_path, "gli")


def test_a_case_folder_of_another_format_fails_by_name(tmp_path: Path) -> None:
    touch(tmp_path / ID, *(f"{ID}-{name}.{half}" for name in MODALITIES for half in ("hdr", "img")))
    assert f"{ID}: holds no image: 4 pairs of .hdr and .img" in str(problems(tmp_path)[ID])


def test_other_formats_beside_cases_are_named_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch_case(tmp_path, ID)
    touch(tmp_path / "patient9", *(f"patient9_{name}.nrrd" for name in MODALITIES))
    assert problems(tmp_path) == {ID: None}
    assert sum("4 .nrrd files" in line for line in caplog.messages) == 1


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1234567\n"
ANNEX = "/annex/objects/SHA256E-s12--aaaa.nii.gz\n"


@pytest.mark.parametrize(("content", "remedy"), [(LFS, "git lfs pull"), (ANNEX, "git annex get or datalad get")])
def test_a_pointer_file_is_named_with_the_way_to_its_content(tmp_path: Path, content: str, remedy: str) -> None:
    """Row 9."""
    path = touch_case(tmp_path, ID) / f"{ID}-t2w.nii.gz"
    path.write_text(content)
    kind = "Git LFS" if content == LFS else "git-annex"
    with pytest.raises(CaseError, match=f"{path}: is a {kind} pointer without its image: run {remedy}"):
        read_volume(path)


@pytest.mark.parametrize("links", Links)
def test_a_broken_link_of_git_annex_is_named_with_the_way_to_its_content(tmp_path: Path, links: Links) -> None:
    path = touch_case(tmp_path, ID) / f"{ID}-t2w.nii.gz"
    path.unlink()
    path.symlink_to("../.git/annex/objects/xx/none.nii.gz")
    case = only(find_cases(tmp_path, links=links))
    assert case.problem is None
    with pytest.raises(CaseError, match=f"{path}: is a git-annex pointer without its image: run git annex get or dat"):
        read_volume(path)


LATER = {
    "BraTS-MET-00001-000": "met",
    "BraTS-PED-00001-000": "ped",
    "BraTS-GLI-02405-101": "gli-post",
    "BraTS-GoAT-00001": "goat",
}


@pytest.mark.parametrize("case_id", LATER)
def test_an_id_of_a_later_challenge_tells_its_task_in_a_mixed_folder_too(tmp_path: Path, case_id: str) -> None:
    """Row 12."""
    touch_case(tmp_path, case_id)
    touch_case(tmp_path, ID)
    tasks = {case.id: case.task.name for case in find_cases(tmp_path) if case.task}
    assert tasks == {case_id: LATER[case_id], ID: "gli"}
    assert set(problems(tmp_path).values()) == set(problems(tmp_path, "gli").values()) == {None}


def test_a_challenge_of_one_contrast_needs_no_other(tmp_path: Path) -> None:
    touch(tmp_path, "BraTS-MEN-RT-0001-1/BraTS-MEN-RT-0001-1_t1c.nii.gz", "BraTS-MEN-RT-0002-1_t1n.nii.gz")
    incomplete_t1n = tmp_path / "BraTS-MEN-RT-0002-1_t1n.nii.gz"
    complete, incomplete = find_cases(tmp_path)
    assert search(tmp_path).left_out == {incomplete_t1n: NOT_WANTED}
    assert (complete.problem, list(complete.paths)) == (None, ["t1c"])
    assert "BraTS-MEN-RT-0002-1 lacks t1c (found " in str(incomplete.problem)
    assert "lacks t1n, t2w, t2f" in str(problems(tmp_path, "gli")["BraTS-MEN-RT-0001-1"])


def test_a_given_task_of_one_contrast_takes_single_images_of_any_id(tmp_path: Path) -> None:
    touch(tmp_path, "patient7_T1GD.nii.gz", "patient8_T1GD.nii.gz")
    assert problems(tmp_path, "men-rt") == {"patient7": None, "patient8": None}
