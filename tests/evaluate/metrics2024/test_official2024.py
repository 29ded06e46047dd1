"""Every number that the official programs of 2024 gave for 46 pairs of five challenges.

Sensitivity, specificity and legacy HD95 are compared where prediction and reference have one lesion at most: elsewhere
the programs compute them on the numbers of lesions, this project on masks.
"""

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brats_infer.evaluate.folder_scores import Scored, judge_pair
from brats_infer.evaluate.label_maps import read_pair
from brats_infer.evaluate.metrics2024.merging import merged
from brats_infer.evaluate.pairs import Pair, find_pairs
from brats_infer.tasks import TASKS, Region2024, Task, task_of_id
from tests.evaluate.shared_pairs import SHARED
from tests.test_cli import brats_opt

PAIRS = SHARED / "metrics" / "2024"
PROGRAMS = {
    "gli-post": "BraTS-GLI",
    "ssa": "BraTS-SSA",
    "met": "BraTS-MET",
    "ped": "BraTS-PED",
    "men-rt": "BraTS-MEN-RT",
}
COLUMNS = {
    "num_tp": "Num_TP",
    "num_fp": "Num_FP",
    "num_fn": "Num_FN",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "legacy_dice": "Legacy_Dice",
    "legacy_hd95": "Legacy_HD95",
    "legacy_nsd_05": "Legacy NSD @ 0.5",
    "legacy_nsd_10": "Legacy NSD @ 1.0",
    "reference_volume": "GT_Complete_Volume",
    "lesionwise_dice": "LesionWise_Score_Dice",
    "lesionwise_hd95": "LesionWise_Score_HD95",
    "lesionwise_nsd_05": "LesionWise_Score_NSD @ 0.5",
    "lesionwise_nsd_10": "LesionWise_Score_NSD @ 1.0",
}
COUNTS = {"num_tp", "num_fp", "num_fn"}
ON_NUMBERS = {"sensitivity", "specificity", "legacy_hd95"}


def official_scores() -> dict[str, Any]:
    return json.loads((PAIRS / "official2024.json").read_text()) if PAIRS.is_dir() else {}


OFFICIAL = official_scores()
pytestmark = pytest.mark.skipif(not OFFICIAL, reason=f"no pairs at {PAIRS}")


@cache
def pairs() -> dict[str, Pair]:
    return {pair.id: pair for pair in find_pairs(PAIRS / "predictions", PAIRS / "references")}


def task_of(case: str) -> Task:
    task = task_of_id(case)
    assert task is not None
    return task


@cache
def scored(case: str) -> Scored:
    return judge_pair(pairs()[case], task_of(case), "2024")


def most_lesions(case: str, region: Region2024) -> int:
    """The higher number of lesions of a region in prediction and reference, before any are joined."""
    maps = read_pair(pairs()[case], task_of(case))
    both = (maps.prediction, maps.reference)
    return max(len(merged(np.isin(labels, region.labels), region.steps).voxels) - 1 for labels in both)


@pytest.mark.parametrize("case", sorted(OFFICIAL))
def test_every_column_is_that_of_the_official_program(case: str) -> None:
    task = task_of(case)
    expected, ours = OFFICIAL[case][PROGRAMS[task.name]], scored(case).table
    assert task.metrics_2024
    regions = {region.name: region for region in task.metrics_2024.regions if region.scored}
    assert list(ours) == list(expected) == list(regions)
    for region, columns in ours.items():
        assert list(columns) == list(COLUMNS)
        alone = most_lesions(case, regions[region]) <= 1
        for column, value in columns.items():
            if column not in ON_NUMBERS or alone:
                tolerance = 0 if column in COUNTS else 1e-6
                assert abs(value - expected[region][COLUMNS[column]]) <= tolerance, (region, column)


def test_46_pairs_of_five_challenges_are_there() -> None:
    assert list(pairs()) == sorted(OFFICIAL)
    assert len(OFFICIAL) == 46
    assert {task_of(case).name for case in OFFICIAL} == {n for n, task in TASKS.items() if task.metrics_2024}


@pytest.mark.parametrize("case", sorted(OFFICIAL))
def test_the_means_over_the_lesions_are_the_lesionwise_scores(case: str) -> None:
    """In MEN-RT without the false ones."""
    settings = task_of(case).metrics_2024
    assert settings
    for region, lesions in scored(case).lesions.items():
        columns = scored(case).table[region]
        counts = [sum(one.status == status for one in lesions) for status in ("found", "false", "missed")]
        assert counts == [columns[name] for name in ("num_tp", "num_fp", "num_fn")]
        counted = [one for one in lesions if settings.counts_false or one.status != "false"]
        for name in ("dice", "hd95", "nsd_05", "nsd_10") if counted else ():
            mean = sum(getattr(one, name) for one in counted) / len(counted)
            assert columns[f"lesionwise_{name}"] == pytest.approx(mean, abs=1e-9)


def test_the_command_writes_these_columns(tmp_path: Path) -> None:
    case = "BraTS-MEN-RT-2401-1"
    files = {name: tmp_path / name for name in ("scores.csv", "scores.json", "lesions.csv")}
    done = brats_opt(
        *("evaluate", "--metrics", "2024"),
        *("--prediction", pairs()[case].prediction, "--reference", pairs()[case].reference),
        *("--csv", files["scores.csv"], "--json", files["scores.json"], "--lesions", files["lesions.csv"]),
    )
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(files["scores.csv"].read_text().splitlines())
    assert list(row) == ["case", "region", *COLUMNS]
    expected = OFFICIAL[case]["BraTS-MEN-RT"]["GTV"]
    assert float(row["lesionwise_nsd_10"]) == pytest.approx(expected["LesionWise_Score_NSD @ 1.0"], abs=1e-6)
    content = json.loads(files["scores.json"].read_text())
    assert (content["task"], content["metrics"]) == ("men-rt", "2024")
    header = files["lesions.csv"].read_text().splitlines()[0]
    assert header == "case,region,lesion,volume_ml,dice,hd95,nsd_05,nsd_10,status"
