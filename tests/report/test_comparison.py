"""`brats-opt report`: the page of predictions beside references."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import NoCasesError
from brats_infer.evaluate import evaluate_folders
from brats_infer.report import compare_folders, comparison
from brats_infer.report.record import SCHEMA
from brats_infer.tasks import task_named
from tests.report.browser import Page, chromium
from tests.test_cli import brats_opt, one_line

GLI = task_named("gli")


@pytest.fixture(scope="module")
def inputs(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images` with two of the cases, `references`, and `predictions` of which the second is missing."""
    folder = tmp_path_factory.mktemp("comparison")
    for name in ("references", "predictions"):
        (folder / name).mkdir()
    for i in range(3):
        case_id = f"BraTS-GLI-0100{i}-000"
        shutil.copy(cohort / "input" / case_id / f"{case_id}-seg.nii.gz", folder / "references")
        if i < 2:
            shutil.copytree(cohort / "input" / case_id, folder / "images" / case_id)
        if i != 1:
            shutil.copy(cohort / "output" / f"{case_id}.nii.gz", folder / "predictions")
    return folder


@pytest.fixture(scope="module")
def folder(inputs: Path) -> Path:
    before = inputs / "references"  # any maps will do
    plain = Path(shutil.copytree(before, inputs / "before"))
    for path in plain.iterdir():
        path.rename(path.with_name(path.name.replace("-seg", "")))
    (plain / "BraTS-GLI-01001-000.nii.gz").unlink()
    names = ("predictions", "references", "images", "out")
    compare_folders(*(inputs / name for name in names), GLI, before=plain, jobs=1)
    return inputs / "out"


@pytest.fixture(scope="module")
def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text()))


def test_it_keeps_to_the_schema_and_the_worst_comes_first(content: dict[str, Any]) -> None:
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    means = [case["mean_dice"] for case in content["cases"]]
    assert means == sorted(means)
    assert content["cases"][0]["flags"] == ["missing"]


def test_scores_are_those_of_evaluate(inputs: Path, content: dict[str, Any]) -> None:
    official = evaluate_folders(inputs / "predictions", inputs / "references", GLI, jobs=1)
    assert {case["id"]: case["scores"] for case in content["cases"]} == official.cases
    before = {case["id"]: case.get("before") for case in content["cases"]}
    assert not before.pop("BraTS-GLI-01001-000"), "there is none, which is no score of 0"
    assert all(region["legacy_dice"] == 1 for case in before.values() for region in case.values())
    assert before


def test_case_without_images_is_scored_and_not_shown(content: dict[str, Any]) -> None:
    case = next(case for case in content["cases"] if case["id"] == "BraTS-GLI-01002-000")
    assert case["viewer"] is None
    assert "--images holds no such case" in case["warnings"][0]
    assert case["regions_ml"]["WT"] > 0


def test_overlay_shows_what_the_table_says(inputs: Path, folder: Path) -> None:
    with chromium(folder) as page:
        page.open("BraTS-GLI-01000-000")
        assert page.texts("[aria-label='Labels shown'] label") == [
            "agree",
            "too much",
            "too little",
            "false lesion",
            "missed lesion",
        ]
        counts = parts_of(page)
        predicted, true = (
            np.asarray(nib.load(inputs / name).dataobj) > 0
            for name in (
                "predictions/BraTS-GLI-01000-000.nii.gz",
                "references/BraTS-GLI-01000-000-seg.nii.gz",
            )
        )
        assert counts[1] == (predicted & true).sum()
        assert counts[2] + counts[4] == (predicted & ~true).sum()
        whole = page.canvas()
        page.one("button[data-value='ET']").click()
        page.wait_for("button[data-value='ET'][aria-pressed='true']")
        page.driver.execute_async_script("setTimeout(arguments[0], 500)")  # type: ignore[no-untyped-call]
        assert page.canvas() != whole
        assert page.complaints() == []


def parts_of(page: Page) -> np.ndarray:
    voxels = page.driver.execute_script("return Array.from(current.viewer.nv.volumes[1].img)")  # type: ignore[no-untyped-call]
    return np.bincount(voxels, minlength=6)


def test_what_it_will_lack_is_told_before_anything_is_scored(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "evaluate_folders", lambda *_, **__: pytest.fail("it began"))
    (tmp_path / "empty").mkdir()
    folders = inputs / "predictions", inputs / "references"
    with pytest.raises(NoCasesError):
        compare_folders(*folders, tmp_path / "empty", tmp_path / "out", GLI)
    with pytest.raises(NoCasesError):
        compare_folders(*folders, inputs / "images", tmp_path / "out", GLI, before=tmp_path / "empty")


def test_cases_of_an_earlier_report_leave_no_image_behind(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "data" / "BraTS-GLI-01002-000.js").touch()  # it has no images now
    compare_folders(*(inputs / name for name in ("predictions", "references", "images")), tmp_path / "out", GLI, jobs=1)
    seen = {path.stem for part in ("data", "pictures") for path in (tmp_path / "out" / part).iterdir()}
    assert seen == {"BraTS-GLI-01000-000", "BraTS-GLI-01001-000"}


def test_command_tells_of_a_missing_prediction_by_its_exit_code(inputs: Path, tmp_path: Path) -> None:
    options = [f"--{name}={inputs / name}" for name in ("predictions", "references", "images")]
    done = brats_opt("report", "--task", "gli", *options, "--out", tmp_path / "out", "--jobs", 1)
    assert (done.returncode, done.stdout.strip()) == (3, str(tmp_path / "out" / "index.html"))
    taken = brats_opt("report", "--task", "gli", *options, "--out", inputs / "predictions")
    assert taken.returncode == 2
    assert "is the folder of --predictions: choose another --out" in one_line(taken)
