"""The facts of the challenges, against the definitions they come from."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from brats_infer.cohort import segment_folder
from brats_infer.errors import UsageError
from brats_infer.evaluate import evaluate_folders
from brats_infer.labelling.label_map import labels_from_probabilities
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.report import RunReport
from brats_infer.run.events import Events
from brats_infer.settings import Settings
from brats_infer.tasks import (
    ID_UNTIL_2021,
    MODALITIES,
    T1C,
    T1N,
    T2F,
    TASKS,
    Region,
    challenge_of_id,
    task_named,
    task_of_id,
)
from model.config import UNetConfig
from tests.case_files import write_case
from tests.small_networks import random_network, write_weights

LATER = (
    "BraTS-GLI-02145-101",
    "BraTS-MET-00004-000",
    "BraTS-PED-00004-000",
    "BraTS-GoAT-00004",
    "BraTS-MEN-RT-0004-1",
)
OF_2023 = pytest.mark.parametrize("task", [TASKS[name] for name in ("gli", "ssa", "men")], ids=lambda task: task.name)


@pytest.mark.parametrize(
    ("case_id", "task"),
    [
        ("BraTS-GLI-00001-000", "gli"),
        ("BraTS-GLI-02145-101", "gli-post"),
        ("BraTS2021_00495", "gli"),
        ("BraTS-SSA-00002-000", "ssa"),
        ("BraTS-MEN-00004-000", "men"),
        ("BraTS-MET-00004-000", "met"),
        ("BraTS-PED-00004-000", "ped"),
        ("BraTS-GoAT-00004", "goat"),
        ("BraTS-MEN-RT-0004-1", "men-rt"),
    ],
)
def test_an_id_tells_its_challenge(case_id: str, task: str) -> None:
    found = task_of_id(case_id)
    assert found is not None
    assert found.name == task


@pytest.mark.parametrize(
    "case_id",
    [
        *("BraTS-ABC-00001-000", "BraTS-GoAT-00001-000", "BraTS-MEN-RT-0001"),
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


WT_TC_ET = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


@pytest.mark.parametrize(
    ("name", "regions", "labels"),
    [
        *((name, WT_TC_ET, ("NCR", "ED", "ET")) for name in ("gli", "ssa", "men", "goat")),
        *((name, {**WT_TC_ET, "RC": (4,)}, ("NETC", "SNFH", "ET", "RC")) for name in ("gli-post", "met")),
        ("ped", {"WT": (1, 2, 3, 4), "TC": (1, 2, 3), "CC": (3,), "ET": (1,)}, ("ET", "NET", "CC", "ED")),
        ("men-rt", {"GTV": (1,)}, ("GTV",)),
    ],
)
def test_regions_are_the_challenges_sets_of_labels(name: str, regions: dict[str, tuple[int, ...]], labels) -> None:
    task = TASKS[name]
    assert {region.name: region.labels for region in task.regions} == regions
    assert tuple(task.name_of(label) for label in task.labels) == labels == task.label_names


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_each_label_is_written_by_the_one_region_that_holds_it_closest(task) -> None:
    """A map of labels -> masks of the regions -> the same map; and a region comes after those around it."""
    assert sorted(region.label for region in task.regions) == list(task.labels)
    labels = np.array([[(0, *task.labels)]], np.uint8)
    masks = torch.from_numpy(regions_from_labels(labels, task)).float()
    assert np.array_equal(labels_from_probabilities(masks, task).numpy(), labels)
    assert all(outer is None or outer < index for index, outer in enumerate(task.outer))


@OF_2023
def test_regions_of_2023_are_nested(task) -> None:
    assert task.is_nested
    assert (task.outer, task.outermost) == ((None, 0, 1), (0,))


def test_regions_around_another_one_are_found_by_their_labels() -> None:
    assert TASKS["ped"].outer == (None, 0, 1, 1)
    assert (TASKS["gli-post"].outer, TASKS["gli-post"].outermost) == ((None, 0, 1, None), (0, 3))
    assert not any(TASKS[name].is_nested for name in ("ped", "gli-post"))


@OF_2023
def test_thresholds_and_dust_are_those_of_the_paper(task) -> None:
    assert {region.name: region.threshold for region in task.regions} == {"WT": 0.45, "TC": 0.40, "ET": 0.45}
    assert ([region.dust_mm3 for region in task.regions], task.connectivity) == ([50, 50, 50], 26)


def test_no_id_belongs_to_two_challenges() -> None:
    ids = ("BraTS-GLI-00001-000", "BraTS2021_00495", "BraTS-SSA-00002-000", "BraTS-MEN-00004-000", *LATER)
    for case_id in ids:
        assert sum(bool(re.fullmatch(task.id_pattern, case_id)) for task in TASKS.values()) == 1


def test_no_ending_of_a_file_means_two_modalities() -> None:
    endings = [suffix for modality in MODALITIES for suffix in modality.suffixes]
    assert len(set(endings)) == len(endings) == 8
    assert not [(a, b) for a in endings for b in endings if a != b and a.endswith(b)]


def test_new_challenge_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up one without t2w, of two nested regions and one outside: found by its IDs, segmented, shown, scored."""
    regions = (Region("ALL", (1, 2), 2, 0.5, 10), Region("CORE", (1,), 1, 0.5, 10), Region("HOLE", (3,), 3, 0.5, 10))
    made_up = replace(TASKS["gli"], name="cyst", title="cysts", id_pattern=r"Cyst-\d{4}", regions=regions)
    made_up = replace(made_up, label_names=("CORE", "RIM", "HOLE"), modalities=(T1N, T1C, T2F))
    monkeypatch.setitem(TASKS, "cyst", made_up)
    for name in ("input", "weights"):
        (tmp_path / name).mkdir()
    write_case(tmp_path / "input", "Cyst-0001", names={"t1n": "-t1n", "t1c": "-t1c", "t2f": "-t2f"})
    network = random_network(UNetConfig(channels=(3, 5, 6), modalities=3, regions=3), seed=3)
    write_weights(tmp_path / "weights", [network], task="cyst")
    report = RunReport(tmp_path / "report", {})
    folders = tmp_path / "input", tmp_path / "output"
    options = {"weights": tmp_path / "weights", "device": "cpu", "settings": Settings(dust=0, component_probability=0)}
    results = segment_folder(*folders, **options, events=report.beside(Events()))
    report.write(tmp_path / "output", results)
    assert [(result.task, result.message) for result in results] == [("cyst", "")]
    (case,) = json.loads((tmp_path / "report" / "report.json").read_text())["cases"]
    assert list(case["regions_ml"]) == ["ALL", "CORE", "HOLE"]
    assert list(case["labels_ml"]) == ["CORE", "RIM", "HOLE"]
    assert all(case["labels_ml"].values())
    (tmp_path / "output" / "Cyst-0001.nii.gz").rename(tmp_path / "Cyst-0001-seg.nii.gz")
    segment_folder(*folders, **options)
    scores = evaluate_folders(tmp_path / "output", tmp_path, made_up, jobs=1)
    assert {name: region["lesionwise_dice"] for name, region in scores.mean.items()} == {"ALL": 1, "CORE": 1, "HOLE": 1}


@pytest.mark.parametrize(
    ("case_id", "challenge"),
    [
        ("BraTS-GLI-00001-000", "gli"),
        ("BraTS-GLI-00001-100", "gli-post"),
        ("BraTS-MEN-RT-0001-1", "men-rt"),
        ("BraTS-ABC-00001-000", "abc"),
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
    assert found is None or challenge == found.name
