"""Situations from public issue trackers, rebuilt in the shared folder `reports`, through the real command."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.evaluate.label_maps import read_known, read_reference
from brats_infer.files.labels import read_labels
from brats_infer.tasks import task_named
from tests.evaluate.small_cohort import labels, write_map
from tests.test_cli import brats_opt, one_line

GLI = task_named("gli")
CAVITY = "holds the label 4: from 2024 on that is the resection cavity, until 2021 it was ET: set it to 0"
Scores = dict[tuple[str, str], dict[str, str]]


@pytest.fixture
def reports(shared: Path) -> Path:
    return shared / "reports"


def evaluated(folder: Path, table: Path, *options: str | Path, references: str = "ref") -> tuple[Scores, str]:
    """({(case, region): scores}, stderr) of a report's two folders."""
    folders = ("--predictions", folder / "pred", "--references", folder / references)
    done = brats_opt("evaluate", *folders, "--jobs", 1, "--csv", table, *options)
    assert done.returncode == 0, done.stderr
    with table.open(newline="") as stream:
        return {(row["case"], row["region"]): row for row in csv.DictReader(stream)}, done.stderr


def assert_perfect(scores: Scores) -> None:
    assert {row["lesionwise_dice"] for row in scores.values()} == {"1.0"}
    assert {row["lesionwise_hd95"] for row in scores.values()} == {"0.0"}


def test_resection_cavity_is_no_enhancing_tumor_in_scores(reports: Path, tmp_path: Path) -> None:
    folder = reports / "resection-cavity"
    folders = ("--predictions", folder / "pred", "--references", folder / "ref", "--jobs", 1)
    done = brats_opt("evaluate", "--task", "gli", *folders)
    assert done.returncode == 3
    assert f"ref/BraTS-GLI-01234-100-seg.nii.gz: {CAVITY}" in done.stderr
    done = brats_opt("report", "--task", "gli", *folders, "--images", folder / "train", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert CAVITY in done.stderr


def test_resection_cavity_is_no_enhancing_tumor_in_training(reports: Path, tmp_path: Path) -> None:
    options = ("--steps", 1, "--patch", 32, "--channels", "4,8", "--device", "cpu", "--out", tmp_path / "run")
    done = brats_opt("train", "--task", "gli", "--data", reports / "resection-cavity" / "train", *options)
    assert done.returncode == 3
    assert CAVITY in one_line(done)


@pytest.mark.parametrize(
    ("name", "beside", "is_et"),
    [
        ("BraTS2021_00001_seg.nii.gz", (), True),
        ("Brats17_2013_2_1_seg.nii.gz", (), True),
        ("BraTS20_Training_355/W39_1998.09.19_Segm.nii", (), True),
        ("patient/p1_seg.nii.gz", ("p1_t1ce.nii.gz",), True),
        ("patient/p1_seg.nii.gz", ("p1_flair.nii", "p1_t1.nii"), True),
        ("patient/p1_seg.nii.gz", ("p1-t1c.nii.gz", "p2_t1ce.nii.gz"), False),
        ("p1-seg.nii.gz", (), False),
        ("BraTS-GLI-01234-100-seg.nii.gz", (), False),
        ("BraTS2021_data/BraTS-GLI-01234-100-seg.nii.gz", ("BraTS-GLI-01234-100_t1ce.nii.gz",), False),
        ("BraTS-PED-00001-000-seg.nii.gz", (), False),
    ],
)
def test_label_4_is_enhancing_tumor_only_where_a_name_says_2021_or_earlier(
    tmp_path: Path, name: str, beside: tuple[str, ...], is_et: bool
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    for other in beside:
        (path.parent / other).touch()
    old = np.where(labels(0) == 3, 4, labels(0)).astype(np.uint8)
    write_map(path, old)
    if is_et:
        assert np.array_equal(read_reference(path, GLI).data, labels(0))
    else:
        with pytest.raises(CaseError, match="holds the label 4: from 2024 on"):
            read_reference(path, GLI)


def test_scaled_labels_are_scored_as_the_whole_numbers_that_they_mean(reports: Path, tmp_path: Path) -> None:
    scores, said = evaluated(reports / "scaled-labels", tmp_path / "scores.csv", "--task", "gli")
    assert len(scores) == 9
    assert_perfect(scores)
    assert "warning" not in said


def test_scaled_labels_are_trained_on(reports: Path) -> None:
    for path in sorted((reports / "scaled-labels" / "ref").iterdir()):
        expected, _ = read_labels(reports / "scaled-labels" / "pred" / path.name.replace("_seg", ""))
        assert np.array_equal(read_reference(path, GLI).data, expected)


def test_task_that_contradicts_the_ids_is_told_and_followed(reports: Path, tmp_path: Path) -> None:
    scores, said = evaluated(reports / "task-and-id", tmp_path / "scores.csv", "--task", "gli")
    assert float(scores["BraTS-MEN-00003-000", "WT"]["lesionwise_hd95"]) == 13.0
    (line,) = [line for line in said.splitlines() if "another challenge" in line]
    assert line == (
        "warning: --task gli: 1 of 1 case IDs tell another challenge, the first BraTS-MEN-00003-000 (men): "
        "the rules of gli score them"
    )


def test_task_auto_follows_the_ids(reports: Path, tmp_path: Path) -> None:
    scores, said = evaluated(reports / "task-and-id", tmp_path / "scores.csv")
    assert float(scores["BraTS-MEN-00003-000", "WT"]["lesionwise_dice"]) == 0.5
    assert float(scores["BraTS-MEN-00003-000", "WT"]["lesionwise_hd95"]) == 187.0
    assert "another challenge" not in said


@pytest.mark.parametrize(
    ("case_ids", "said"),
    [
        (("a", "b"), "the case ID a does not tell the challenge: give --task gli|ssa|men|"),
        (("BraTS-GLI-00001-000", "BraTS-MEN-00001-000"), "the case IDs name several challenges, "),
        (("BraTS-ABC-00001-000",), "the case ID BraTS-ABC-00001-000 is of the challenge abc, whose rules"),
    ],
)
def test_task_auto_refuses_ids_that_do_not_tell_it(tmp_path: Path, case_ids: tuple[str, ...], said: str) -> None:
    for case_id in case_ids:
        for side, name in (("pred", f"{case_id}.nii.gz"), ("ref", f"{case_id}-seg.nii.gz")):
            (tmp_path / side).mkdir(exist_ok=True)
            write_map(tmp_path / side / name, labels(0))
    done = brats_opt("evaluate", "--predictions", tmp_path / "pred", "--references", tmp_path / "ref")
    assert done.returncode == 2
    assert said in one_line(done)


def test_other_axes_of_a_label_map_are_turned_and_scored(reports: Path, tmp_path: Path) -> None:
    scores, said = evaluated(reports / "other-axes", tmp_path / "scores.csv", "--task", "gli")
    assert_perfect(scores)
    assert "its axes are RAS, those of BraTS-GLI-00001-000-seg.nii.gz LPS: it was turned onto them" in said


def test_micrometres_between_two_grids_are_a_warning(reports: Path, tmp_path: Path) -> None:
    kept = tmp_path / "scores.json"
    scores, said = evaluated(reports / "micrometres", tmp_path / "scores.csv", "--json", kept)
    assert_perfect(scores)
    (warning,) = json.loads(kept.read_text())["warnings"]
    assert "its affine differs by 0.00693 mm from that of BraTS-GLI-00001-000-seg.nii.gz, less than a tenth" in warning
    assert warning in said


def test_same_names_of_references_and_predictions_are_pairs(reports: Path, tmp_path: Path) -> None:
    folder = reports / "same-names"
    scores, _ = evaluated(folder, tmp_path / "scores.csv", "--task", "gli", references="labelsTr")
    assert list(scores) == [("BRATS_001", region) for region in ("WT", "TC", "ET")]
    assert_perfect(scores)


NNUNET_V1 = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
NNUNET_V2 = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
OURS = [
    {"background": 0, "NCR": 1, "ED": 2, "ET": 3},
    {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": 3},
    {"0": "background", "1": "necrotic core", "2": "edema", "4": "enhancing tumor"},
    {"NETC": 1, "surrounding non-enhancing FLAIR hyperintensity": 2, "enhancing tumor core": 3},
    {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3], "a": {}, "1": None},
    [],
]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (NNUNET_V1, "calls (1,) 'edema', in gli that is (2,): renumber the labels"),
        (NNUNET_V2, "calls (2, 3) 'tumor core', in gli that is (1, 3): renumber the labels"),
        *((names, None) for names in OURS),
    ],
)
@pytest.mark.parametrize("place", ["labelsTr", "."])
def test_same_names_of_nnu_net_whose_labels_mean_something_else_are_refused(
    tmp_path: Path, names: Any, said: str | None, place: str
) -> None:
    """nnU-Net exchanges 1 and 2; beside labelsTr, and in its own output, dataset.json says so."""
    path = tmp_path / place / "BraTS2021_00001.nii.gz"
    path.parent.mkdir(exist_ok=True)
    write_map(path, labels(0))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names}))
    if said is None:
        assert np.array_equal(read_reference(path, GLI).data, labels(0))
        return
    for read in (read_reference, read_known):
        with pytest.raises(CaseError) as caught:
            read(path, GLI)
        assert str(caught.value) == f"{path}: {tmp_path / 'dataset.json'} {said}"


def test_images_beside_references_of_the_same_names_are_no_references(tmp_path: Path) -> None:
    """nnU-Net numbers the images of a case, whose ID may end in a number itself."""
    for name in ("pred/case_0001", "raw/labelsTr/case_0001", "raw/labelsTr/case_0002"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_map(tmp_path / f"{name}.nii.gz", labels(0))
    (tmp_path / "raw" / "imagesTr").mkdir()
    for name in ("case_0001_0000", "case_0001_0001", "case_0002_0000", "case_0002_t1ce"):
        (tmp_path / "raw" / "imagesTr" / f"{name}.nii.gz").touch()
    folders = ("--predictions", tmp_path / "pred", "--references", tmp_path / "raw", "--jobs", 1)
    done = brats_opt("evaluate", "--task", "gli", *folders)
    assert done.returncode == 3
    assert "1 missing predictions got the worst scores: case_0002\n" in done.stdout


def test_pixdim_that_contradicts_the_sform_is_told(tmp_path: Path) -> None:
    for side, name in (("pred", "p1.nii.gz"), ("ref", "p1-seg.nii.gz")):
        (tmp_path / side).mkdir()
        write_map(tmp_path / side / name, labels(0), spacing=(2.0, 2.0, 3.0))
        image = nib.load(tmp_path / side / name)
        image.header["pixdim"][1:4] = 1
        image.header["qform_code"] = 0
        raw = image.header.binaryblock + bytes(4) + np.asarray(image.dataobj).tobytes(order="F")
        (tmp_path / side / name).unlink()
        (tmp_path / side / name.removesuffix(".gz")).write_bytes(raw)
    scores, said = evaluated(tmp_path, tmp_path / "scores.csv", "--task", "gli")
    assert_perfect(scores)
    assert float(scores["p1", "WT"]["reference_volume"]) == 12 * np.count_nonzero(labels(0))
    for name in ("pred/p1.nii", "ref/p1-seg.nii"):
        assert f"{name}: its pixdim says voxels of 1x1x1 mm, its affine 2x2x3 mm: the affine was used" in said


def test_one_pair_of_files_is_scored_whatever_their_names(tmp_path: Path) -> None:
    write_map(tmp_path / "ours.nii.gz", labels(0, shift=1))
    write_map(tmp_path / "BraTS-GLI-00001-000-seg.nii.gz", labels(0))
    pair = ("--prediction", tmp_path / "ours.nii.gz", "--reference", tmp_path / "BraTS-GLI-00001-000-seg.nii.gz")
    done = brats_opt("evaluate", *pair, "--csv", tmp_path / "scores.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores.csv").read_text().count("BraTS-GLI-00001-000") == 3
    done = brats_opt("evaluate", *pair[:2], "--references", tmp_path)
    assert done.returncode == 2
    assert "--prediction and --reference" in done.stderr
    done = brats_opt("evaluate", "--task", "gli", "--prediction", tmp_path / "absent.nii.gz", *pair[2:])
    assert done.returncode == 3
    assert "absent.nii.gz: cannot be opened" in done.stderr


def test_lesions_are_listed_one_a_row(tmp_path: Path) -> None:
    reference, prediction = np.zeros((2, 40, 20, 20), np.uint8)
    reference[2:8, 2:8, 2:8], prediction[2:8, 2:8, 2:5] = 3, 3  # found, half of it
    reference[20:26, 2:8, 2:8] = 3  # missed
    prediction[20:24, 15:18, 15:18] = 3  # false
    reference[38, 18, 18] = 3  # too small to count
    write_map(tmp_path / "p.nii.gz", prediction)
    write_map(tmp_path / "r.nii.gz", reference)
    pair = ("--task", "gli", "--prediction", tmp_path / "p.nii.gz", "--reference", tmp_path / "r.nii.gz")
    done = brats_opt("evaluate", *pair, "--lesions", tmp_path / "lesions.csv")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "lesions.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["region"] == "ET"]
    assert list(rows[0]) == ["case", "region", "lesion", "volume_ml", "dice", "hd95", "status"]
    assert [tuple(row.values()) for row in rows] == [
        ("r", "ET", "1", "0.216", str(2 / 3), "3.0", "found"),
        ("r", "ET", "2", "0.216", "0.0", "374.0", "missed"),
        ("r", "ET", "3", "0.036", "0.0", "374.0", "false"),
    ]
    done = brats_opt("evaluate", *pair, "--metrics", "2026", "--lesions", tmp_path / "lesions.csv")
    assert done.returncode == 2
    assert "--lesions lists lesions by the metrics of 2023" in done.stderr


def reported(folder: Path, images: Path, out: Path) -> tuple[dict[str, Any], str]:
    """(the one case of the report of a folder, stderr)."""
    folders = ("--predictions", folder / "pred", "--references", folder / "ref", "--images", images)
    done = brats_opt("report", "--task", "gli", *folders, "--out", out, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads((out / "report.json").read_text())["cases"]
    return case, done.stderr


def test_report_tells_of_micrometres_and_shows_the_case(reports: Path, tmp_path: Path) -> None:
    folder = reports / "micrometres"
    case, said = reported(folder, folder / "in", tmp_path / "out")
    assert case["mean_dice"] == 1
    assert case["picture"]
    assert "its affine differs by 0.00693 mm from that of BraTS-GLI-00001-000-seg.nii.gz, less than" in said
    assert any("0.00693 mm" in warning for warning in case["warnings"])


def test_report_turns_label_maps_of_other_axes_onto_the_images(reports: Path, tmp_path: Path) -> None:
    """Also a reference that lies otherwise than its images."""
    upright, upright_said = reported(reports / "micrometres", reports / "micrometres" / "in", tmp_path / "upright")
    assert "turned" not in upright_said
    for side in ("pred", "ref"):
        (tmp_path / side).mkdir()
        for path in (reports / "micrometres" / side).iterdir():
            nib.save(nib.as_closest_canonical(nib.load(path)), tmp_path / side / path.name)
    turned, _ = reported(tmp_path, reports / "micrometres" / "in", tmp_path / "out")
    assert any("its axes are RAS, those of the images of" in warning for warning in turned["warnings"])
    assert turned["scores"] == upright["scores"]
    assert turned["lesions"] == upright["lesions"]
    case, said = reported(reports / "other-axes", reports / "micrometres" / "in", tmp_path / "other")
    assert case["mean_dice"] == 1
    assert "its axes are RAS" in said


def test_report_tells_of_a_task_that_contradicts_the_ids(reports: Path, tmp_path: Path) -> None:
    folder = reports / "task-and-id"
    _, said = reported(folder, folder / "in", tmp_path / "out")
    assert "1 of 1 case IDs tell another challenge, the first BraTS-MEN-00003-000 (men)" in said


@pytest.mark.parametrize("case_id", ["UPENN-GBM-00001_11", "UCSF-PDGM-0004"])
def test_label_4_of_the_collections_is_the_enhancing_tumor(tmp_path: Path, case_id: str) -> None:
    """Their labels are those of the challenges until 2021, under names of their own."""
    for name, et in (("ref", 4), ("pred", 3)):
        (tmp_path / name).mkdir()
        write_map(tmp_path / name / f"{case_id}.nii.gz", np.where(labels(0) == 3, et, labels(0)).astype(np.uint8))
    scores, _ = evaluated(tmp_path, tmp_path / "scores.csv", "--task", "gli")
    assert_perfect(scores)


def test_a_reference_that_is_a_pointer_is_named_with_its_remedy(tmp_path: Path) -> None:
    for name in ("ref", "pred"):
        (tmp_path / name).mkdir()
        write_map(tmp_path / name / "BraTS-GLI-00001-000.nii.gz", labels(0))
    pointer = tmp_path / "ref" / "BraTS-GLI-00001-000.nii.gz"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 12\n")
    done = brats_opt("evaluate", "--predictions", tmp_path / "pred", "--references", tmp_path / "ref", "--jobs", 1)
    assert done.returncode == 3
    assert f"{pointer}: is a Git LFS pointer without its image: run git lfs pull" in done.stderr
