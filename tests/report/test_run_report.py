"""What a run's report holds, and that it costs no case."""

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from brats_infer.cohort import segment_folder
from brats_infer.errors import OutputError
from brats_infer.report import RunReport
from brats_infer.report import run_report as run
from brats_infer.report.page import SCRIPTS, SOURCE
from brats_infer.report.record import SCHEMA, plain, write_record
from brats_infer.run.events import CaseResult, Events, Status
from brats_infer.settings import Settings
from brats_infer.tasks import TASKS
from model.checkpoint import read_manifest
from tests.report.conftest import TAG
from tests.test_cli import brats_opt, one_line

GOOD = [f"BraTS-GLI-0100{i}-000" for i in range(3)]


@pytest.fixture(scope="module")
def content(cohort: Path) -> dict[str, Any]:
    return dict(json.loads((cohort / "report" / "report.json").read_text()))


def good(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [case for case in content["cases"] if case["id"] in GOOD]


def test_report_keeps_to_its_schema(content: dict[str, Any]) -> None:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)


def test_page_reads_the_facts_of_a_challenge_from_the_report(content: dict[str, Any]) -> None:
    assert {name: entry["penalty_mm"] for name, entry in content["tasks"].items()} == {
        task.name: task.metrics.penalty_mm for task in TASKS.values()
    }
    assert content["limits"] == {"low_dice": 0.6, "low_expected_dice": 0.5}
    assert content["first_contrast"] == "t1c"


def test_no_script_of_the_page_holds_a_fact_of_a_challenge() -> None:
    facts = re.compile(r"\b(374|t1n|t1c|t2w|t2f|gli|ssa|men|WT|TC|ET|NCR|ED)\b")
    for name in SCRIPTS:
        assert not facts.findall((SOURCE / name).read_text()), name


def test_report_names_what_ran(cohort: Path, content: dict[str, Any]) -> None:
    (member,) = read_manifest(cohort / "weights")
    assert [entry["sha256"] for entry in content["members"]] == [member.sha256]
    assert (content["device"], content["options"]) == ("cpu", {"task": "gli"})
    assert content["peak_memory"]["host"] > 2**26
    assert set(good(content)[0]["seconds"]) == {"read", "preprocess", "network", "clean", "write", "report"}


def test_volumes_and_lesions_are_those_of_the_label_map(cohort: Path, content: dict[str, Any]) -> None:
    for case in good(content):
        image = nib.load(cohort / "output" / f"{case['id']}.nii.gz")
        labels = np.asarray(image.dataobj)
        for name, values in content["tasks"]["gli"]["regions"].items():
            mask = np.isin(labels, values)
            components, count = ndimage.label(mask, np.ones((3, 3, 3)))
            assert case["regions_ml"][name] == pytest.approx(mask.sum() / 1000, abs=1e-3)
            assert case["lesion_counts"][name] == count
            lesions = [lesion for lesion in case["lesions"] if lesion["region"] == name]
            sizes = sorted(np.bincount(components.ravel())[1:] / 1000, reverse=True)
            assert [lesion["ml"] for lesion in lesions] == pytest.approx(sizes, abs=1e-3)
            at = [nib.affines.apply_affine(np.linalg.inv(image.affine), lesion["mm"]) for lesion in lesions]
            found = [components[tuple(np.round(voxel).astype(int))] for voxel in at]
            assert sorted(found) == list(range(1, count + 1)), "each centre lies in its lesion"


def test_failed_cases_are_flagged_and_have_no_picture(content: dict[str, Any]) -> None:
    bad = [case for case in content["cases"] if case["id"] not in GOOD]
    assert sorted(case["id"] for case in bad) == [TAG, "BraTS-GLI-01003-000"]
    assert all(case["flags"] == ["failed"] and case["message"] and case["picture"] is None for case in bad)


def test_table_has_a_row_for_each_case(cohort: Path, content: dict[str, Any]) -> None:
    with (cohort / "report" / "report.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [case["id"] for case in content["cases"]]
    by_id = {row["id"]: row for row in rows}
    assert all(float(by_id[case["id"]]["regions_ml WT"]) == case["regions_ml"]["WT"] for case in good(content))


def test_table_without_cases_has_the_first_columns_of_any_other(cohort: Path, tmp_path: Path) -> None:
    write_record(tmp_path, {"cases": []})
    columns = (tmp_path / "report.csv").read_text().splitlines()
    assert columns == ["id,task,status,flags,message,warnings"]
    with (cohort / "report" / "report.csv").open() as stream:
        assert stream.readline().startswith(f"{columns[0]},")


def test_no_cell_of_the_table_is_a_formula() -> None:
    assert [plain(text) for text in ("=1+1", "@x", "BraTS", 3)] == ["'=1+1", "'@x", "BraTS", 3]


def test_every_map_has_a_picture_and_volumes_for_the_viewer(cohort: Path) -> None:
    for case_id in GOOD:
        with Image.open(cohort / "report" / "pictures" / f"{case_id}.png") as picture:
            assert picture.width == 1200
        script = (cohort / "report" / "data" / f"{case_id}.js").read_text()
        assert script.startswith(f'bratsOpt.arrive({{"id": "{case_id}"')


def test_output_folder_holds_label_maps_only(cohort: Path) -> None:
    assert [path.name for path in sorted((cohort / "output").iterdir())] == [f"{case_id}.nii.gz" for case_id in GOOD]


def test_maps_of_an_earlier_run_are_drawn_too(cohort: Path, tmp_path: Path) -> None:
    made = RunReport(tmp_path, {})
    settings = Settings(resume=True)
    results = segment_folder(
        cohort / "input",
        cohort / "output",
        task="gli",
        weights=cohort / "weights",
        device="cpu",
        settings=settings,
        events=made.beside(Events()),
    )
    assert results[1].status is Status.SKIPPED
    made.write(cohort / "output", results)
    again, before = (json.loads((folder / "report.json").read_text()) for folder in (tmp_path, cohort / "report"))
    for one, other in zip(good(again), good(before), strict=True):
        assert {name: one[name] for name in ("regions_ml", "lesions")} == {
            name: other[name] for name in ("regions_ml", "lesions")
        }
        picture = f"pictures/{one['id']}.png"
        assert (tmp_path / picture).read_bytes() == (cohort / "report" / picture).read_bytes()


def test_case_that_cannot_be_drawn_stops_no_other_picture(cohort: Path, tmp_path: Path) -> None:
    cases = Path(shutil.copytree(cohort / "input", tmp_path / "input"))
    damaged = cases / GOOD[0] / f"{GOOD[0]}-t2w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-50])
    options = ("--input", cases, "--output", cohort / "output", "--weights", cohort / "weights", "--task", "gli")
    done = brats_opt(*options, "--resume", "--report", tmp_path / "report")
    assert done.returncode == 3, done.stderr
    assert f"no picture of {GOOD[0]}: {damaged}" in done.stderr
    drawn = [path.stem for path in sorted((tmp_path / "report" / "pictures").iterdir())]
    assert drawn == GOOD[1:]


def segmented(cohort: Path, output: Path, made: RunReport) -> list[CaseResult]:
    """The cases of the cohort once more, told to that report."""
    events = made.beside(Events())
    folders = (cohort / "input", output)
    return segment_folder(*folders, task="gli", weights=cohort / "weights", device="cpu", events=events)


def test_picture_that_cannot_be_drawn_costs_no_label_map(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def too_large(*_: object) -> None:
        raise MemoryError

    made = RunReport(tmp_path / "report", {})
    monkeypatch.setattr(run, "draw_picture", too_large)
    results = segmented(cohort, tmp_path / "output", made)
    assert sum(result.status is Status.WRITTEN for result in results) == 3
    assert caplog.text.count("no picture of BraTS-GLI-0100") == 3
    made.write(tmp_path / "output", results)
    assert (tmp_path / "report" / "index.html").exists()


def test_full_disk_under_the_report_costs_no_label_map(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    made = RunReport(tmp_path / "report", {})
    monkeypatch.setattr(run, "draw_picture", full)
    results = segmented(cohort, tmp_path / "output", made)
    assert sum(result.status is Status.WRITTEN for result in results) == 3
    with pytest.raises(OutputError, match=r"report: cannot be written \(No space left on device\)"):
        made.write(tmp_path / "output", results)


def test_file_name_that_is_no_text_costs_no_report(cohort: Path, tmp_path: Path) -> None:
    cases = Path(shutil.copytree(cohort / "input", tmp_path / "input"))
    odd = os.fsdecode(b"caf\xe9")
    (cases / GOOD[0]).rename(cases / odd)
    for path in list((cases / odd).iterdir()):
        path.rename(path.with_name(path.name.replace(GOOD[0], odd)))
    options = ("--input", cases, "--output", tmp_path / "out", "--weights", cohort / "weights", "--task", "gli")
    done = brats_opt(*options, "--report", tmp_path / "report")
    assert done.returncode == 3, done.stderr
    assert "caf\\udce9" in (tmp_path / "report" / "report.csv").read_text()
    assert (tmp_path / "report" / "index.html").exists()


def test_what_an_earlier_run_drew_of_a_case_that_fails_now_goes(cohort: Path, tmp_path: Path) -> None:
    made = RunReport(tmp_path, {})
    results = segmented(cohort, tmp_path / "output", made)
    failed = "BraTS-GLI-01003-000"
    left = [tmp_path / "pictures" / f"{failed}.png", tmp_path / "data" / f"{failed}.js"]
    for path in left:
        path.touch()
    made.write(tmp_path / "output", results)
    assert not any(path.exists() for path in left)
    assert len(list((tmp_path / "pictures").iterdir())) == 3


def test_parts_of_the_cases_have_reports_of_their_own(cohort: Path, tmp_path: Path) -> None:
    options = ("--input", cohort / "input", "--output", tmp_path / "out", "--weights", cohort / "weights")
    for part in ("1/2", "2/2"):
        brats_opt(*options, "--task", "gli", "--report", tmp_path / "report", "--shard", part)
    parts = [json.loads((tmp_path / "report" / f"part-{k}-of-2" / "report.json").read_text()) for k in (1, 2)]
    ids = [{case["id"] for case in part["cases"]} for part in parts]
    assert set(GOOD) <= ids[0] | ids[1]
    assert not ids[0] & ids[1]


def test_no_image_of_a_case_stays_that_the_report_does_not_list(cohort: Path, tmp_path: Path) -> None:
    pictures, data = tmp_path / "report" / "pictures", tmp_path / "report" / "data"
    for folder in (pictures, data):
        folder.mkdir(parents=True)
    (data / "patient of another run.js").write_text("bratsOpt.arrive({})")
    (pictures / "patient of another run.png").touch()
    (data / "somebody's own.js").write_text("let me = be;")
    (pictures / "somebody's own.png").touch()
    options = ("--input", cohort / "input", "--output", tmp_path / "out", "--weights", cohort / "weights")
    brats_opt(*options, "--task", "gli", "--report", tmp_path / "report")
    for folder in (pictures, data):
        assert sorted(path.stem for path in folder.iterdir()) == [*sorted(GOOD), "somebody's own"]


def test_what_a_killed_run_left_in_a_report_goes(tmp_path: Path) -> None:
    for name in ("pictures", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".brats-opt-left").touch()
    RunReport(tmp_path, {})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_report_may_not_be_the_output_folder(cohort: Path, tmp_path: Path) -> None:
    done = brats_opt("--input", cohort / "input", "--output", tmp_path, "--report", tmp_path)
    assert done.returncode == 2
    assert "is the output folder: choose another --report" in one_line(done)


def test_inference_imports_no_report_unless_one_is_asked_for(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "PIL.py").write_text("raise ModuleNotFoundError(name='PIL')")
    options = ("--input", cohort / "input", "--output", tmp_path / "out", "--weights", cohort / "weights")
    done = brats_opt(*options, "--task", "gli", PYTHONPATH=str(tmp_path))
    assert done.returncode == 3, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3
