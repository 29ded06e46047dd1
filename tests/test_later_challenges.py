"""The challenges of 2024 and later, each from phantoms to a report: a team's commands, on small volumes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from brats_infer.cli import cli
from brats_infer.cohort import segment_folder
from brats_infer.files.labels import read_labels
from brats_infer.phantom.write import write_cohort
from brats_infer.report import RunReport
from brats_infer.report.record import SCHEMA
from brats_infer.run.events import Events, Status
from brats_infer.settings import Settings
from brats_infer.tasks import TASKS
from model.checkpoint import save_weights, write_manifest
from model.config import UNetConfig
from tests.small_networks import SMALL, member_of, random_network

LATER = ("gli-post", "met", "ped", "goat", "men-rt")
TINY = {"channels": "4,6", "patch": 16, "steps": 3, "spacing": 2, "validate-every": 3, "warm-up": 1, "device": "cpu"}
SHAPE = (40, 44, 36)
UNTOUCHED = Settings(dust=0, component_probability=0)  # three steps make a network that is sure of nothing


def brats_opt(*args: object) -> str:
    """A command in this process, and what it prints."""
    done = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert done.exception is None or done.exit_code == 0, (args, done.output, done.exception)
    return done.stdout


def report_of(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "report.json").read_text())
    jsonschema.validate(content, json.loads(SCHEMA.read_text()))
    assert (folder / "index.html").exists()
    return dict(content)


@pytest.mark.parametrize("task", LATER)
def test_from_phantoms_to_a_report(tmp_path: Path, task: str) -> None:
    of = TASKS[task]
    cases, run, weights, maps = (tmp_path / name for name in ("cases", "run", "weights", "maps"))
    assert len(list(write_cohort(cases, task, 2, seed=1, shape=SHAPE))) == 2
    assert "2 cases, 0 of them left out" in brats_opt("check", "--data", cases, "--task", task)

    options = [word for name, value in TINY.items() for word in (f"--{name}", value)]
    brats_opt("train", "--task", task, "--data", cases, "--out", run, "--publish", weights, *options)
    assert f"--task {task}  {of.title}: 1 network" in brats_opt("info", "--weights", weights)

    report = RunReport(tmp_path / "report", {"task": task})
    events = report.beside(Events())
    results = segment_folder(cases, maps, weights=weights, device="cpu", settings=UNTOUCHED, events=events)
    report.write(maps, results)
    assert [(result.task, result.status, result.message) for result in results] == [(task, Status.WRITTEN, "")] * 2
    assert brats_opt("check", "--input", cases, "--output", maps).splitlines()[-1].startswith("0 errors")
    content = report_of(tmp_path / "report")
    assert [list(case["regions_ml"]) for case in content["cases"]] == [[region.name for region in of.regions]] * 2

    scored, page = tmp_path / "scores.json", tmp_path / "page"
    pairs = ("--predictions", maps, "--references", cases, "--jobs", 1)
    for year in ("2023", "2024") if of.metrics_2024 else ("2023",):
        brats_opt("evaluate", *pairs, "--metrics", year, "--json", scored)
    brats_opt("report", *pairs, "--images", cases, "--out", page)
    content = report_of(page)
    assert content["options"]["metrics"] == of.own_metrics
    official = json.loads(scored.read_text())
    regions = list(content["tasks"][task]["regions"])
    assert [row["region"] for row in official["mean"]] == regions
    for case in content["cases"]:
        assert list(case["scores"]) == list(case["regions_ml"]) == regions


def write_members(folder: Path) -> None:
    """A weights folder with a small random member for each task."""
    folder.mkdir()
    members = []
    for seed, task in enumerate(TASKS.values(), start=2):  # seeds of networks that find something
        config = UNetConfig(SMALL.channels, modalities=len(task.modalities), regions=len(task.regions))
        file = f"{task.name}.safetensors"
        sha256 = save_weights(folder / file, random_network(config, seed))
        members.append(replace(member_of(file, sha256, config), task=task.name))
    write_manifest(folder, members)


def test_a_folder_of_all_challenges_goes_case_by_case(tmp_path: Path) -> None:
    """Each case gets the map that it gets alone, with the task named."""
    cases, weights, maps, alone = (tmp_path / name for name in ("cases", "weights", "maps", "alone"))
    write_members(weights)
    options = ("--weights", weights, "--device", "cpu", "--dust", 0, "--component-probability", 0)
    ids = {task: case_id for task in TASKS for case_id in write_cohort(tmp_path / task, task, 1, seed=1, shape=SHAPE)}
    cases.mkdir()
    for task, case_id in ids.items():
        brats_opt("--input", tmp_path / task, "--output", alone, "--task", task, *options)
        (tmp_path / task / case_id).rename(cases / case_id)
    brats_opt("--input", cases, "--output", maps, *options)
    assert brats_opt("check", "--input", cases, "--output", maps).splitlines()[-1].startswith("0 errors")
    contents = {path.name: path.read_bytes() for path in maps.iterdir()}
    assert contents == {path.name: path.read_bytes() for path in alone.iterdir()}
    assert set(contents) == {f"{case_id}.nii.gz" for case_id in ids.values()}
    for task, case_id in ids.items():
        found = set(np.unique(read_labels(maps / f"{case_id}.nii.gz")[0])) - {0}
        assert found
        assert found <= set(TASKS[task].labels)
