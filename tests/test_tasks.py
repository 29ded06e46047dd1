"""The facts of the challenges, against the definitions they come from."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from brats_infer.cohort import segment_folder
from brats_infer.errors import UsageError
from brats_infer.evaluate import evaluate_folders
from brats_infer.report import RunReport
from brats_infer.run.events import Events
from brats_infer.tasks import (
    ED,
    ID_UNTIL_2021,
    MODALITIES,
    NCR,
    TASKS,
    Region,
    challenge_of_id,
    other_challenge,
    task_named,
    task_of_id,
)
from model.config import UNetConfig
from tests.case_files import write_case
from tests.small_networks import random_network, write_weights

OF_2023 = pytest.mark.parametrize("task", [TASKS[name] for name in ("gli", "ssa", "men")], ids=lambda task: task.name)


@pytest.mark.parametrize(
    ("case_id", "task"),
    [
        ("BraTS-GLI-00001-000", "gli"),
        ("BraTS-GLI-02145-101", "gli"),
        ("BraTS2021_00495", "gli"),
        ("BraTS-SSA-00002-000", "ssa"),
        ("BraTS-MEN-00004-000", "men"),
    ],
)
def test_an_id_tells_its_challenge(case_id: str, task: str) -> None:
    found = task_of_id(case_id)
    assert found is not None
    assert found.name == task


@pytest.mark.parametrize(
    "case_id",
    [
        *("BraTS-ABC-00001-000", "BraTS-GoAT-00001", "BraTS-MEN-RT-0001-1"),
        *("Brats18_2013_20_1", "patient7", "", "BraTS-GLI-0001-000", "BraTS-GLI-00001-000-x", "xBraTS-GLI-00001-000"),
        "BraTS-GLI-00001-000\n",
    ],
)
def test_other_ids_tell_nothing(case_id: str) -> None:
    assert task_of_id(case_id) is None


def test_tasks_are_found_by_name_and_unknown_ones_are_answered_with_the_choice() -> None:
    assert all(task_named(name).name == name for name in ("gli", "ssa", "men"))
    with pytest.raises(UsageError, match="choose one of gli, ssa, men"):
        task_named("glioma")


@OF_2023
def test_regions_are_the_challenges_sets_of_labels(task) -> None:
    regions = {region.name: task.region_labels(region) for region in task.regions}
    assert regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    assert task.labels == (1, 2, 3)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_each_region_lies_inside_the_one_before(task) -> None:
    labels = [set(task.region_labels(region)) for region in task.regions]
    assert all(inner < outer for outer, inner in itertools.pairwise(labels))


@OF_2023
def test_thresholds_and_dust_are_those_of_the_paper(task) -> None:
    assert {region.name: region.threshold for region in task.regions} == {"WT": 0.45, "TC": 0.40, "ET": 0.45}
    assert ([region.dust_mm3 for region in task.regions], task.connectivity) == ([50, 50, 50], 26)


def test_no_id_belongs_to_two_challenges() -> None:
    ids = ("BraTS-GLI-00001-000", "BraTS2021_00495", "BraTS-SSA-00002-000", "BraTS-MEN-00004-000")
    for case_id in ids:
        assert sum(bool(re.fullmatch(task.id_pattern, case_id)) for task in TASKS.values()) == 1


def test_no_ending_of_a_file_means_two_modalities() -> None:
    endings = [suffix for modality in MODALITIES for suffix in modality.suffixes]
    assert len(set(endings)) == len(endings) == 8
    assert not [(a, b) for a in endings for b in endings if a != b and a.endswith(b)]


def test_new_challenge_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up one of two regions is found by its IDs, segmented, reported on and scored."""
    regions = (Region("ALL", ED, 0.5, 10), Region("CORE", NCR, 0.5, 10))
    made_up = replace(TASKS["gli"], name="cyst", title="cysts", id_pattern=r"Cyst-\d{4}", regions=regions)
    monkeypatch.setitem(TASKS, "cyst", made_up)
    for name in ("input", "weights"):
        (tmp_path / name).mkdir()
    write_case(tmp_path / "input", "Cyst-0001")
    write_weights(
        tmp_path / "weights", [random_network(UNetConfig(channels=(3, 5, 6), regions=2), seed=1)], task="cyst"
    )
    report = RunReport(tmp_path / "report", {})
    folders = tmp_path / "input", tmp_path / "output"
    results = segment_folder(*folders, weights=tmp_path / "weights", device="cpu", events=report.beside(Events()))
    report.write(tmp_path / "output", results)
    assert [(result.task, result.message) for result in results] == [("cyst", "")]
    (case,) = json.loads((tmp_path / "report" / "report.json").read_text())["cases"]
    assert list(case["regions_ml"]) == ["ALL", "CORE"]
    (tmp_path / "output" / "Cyst-0001.nii.gz").rename(tmp_path / "Cyst-0001-seg.nii.gz")
    segment_folder(*folders, weights=tmp_path / "weights", device="cpu")
    scores = evaluate_folders(tmp_path / "output", tmp_path, made_up, jobs=1)
    assert scores.mean["CORE"]["lesionwise_dice"] == 1


@pytest.mark.parametrize(
    ("case_id", "challenge"),
    [
        ("BraTS-GLI-00001-000", "gli"),
        ("BraTS-GLI-00001-100", "BraTS-GLI post-treatment"),
        ("BraTS-MET-00001-000", "BraTS-MET"),
        ("BraTS-MEN-RT-0001-1", "BraTS-MEN-RT"),
        ("BraTS-GoAT-00001", "BraTS-GoAT"),
        ("Brats17_2013_2_1", "gli"),
        ("BraTS20_Training_001", "gli"),
        ("BraTS2021_00001", "gli"),
        ("BraTS2023_00001", None),
        ("BRATS_001", None),
        ("p1", None),
    ],
)
def test_challenge_of_an_id_is_told_also_where_no_task_has_it(case_id: str, challenge: str | None) -> None:
    assert challenge_of_id(case_id) == challenge
    assert bool(ID_UNTIL_2021.fullmatch(case_id)) == (challenge == "gli" and "-" not in case_id)
    found = task_of_id(case_id)
    assert found is None or challenge in (found.name, other_challenge(case_id))
