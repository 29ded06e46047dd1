"""Every number that the official program gave for 26 pairs, with the settings of two challenges."""

from functools import cache

import pytest

from brats_infer.evaluate import CohortScores, evaluate_folders
from brats_infer.tasks import task_named
from tests.evaluate.shared_pairs import PAIRS, needs_pairs, official_scores

COLUMNS = {
    "num_tp": "Num_TP",
    "num_fp": "Num_FP",
    "num_fn": "Num_FN",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "legacy_dice": "Legacy_Dice",
    "legacy_hd95": "Legacy_HD95",
    "reference_volume": "GT_Complete_Volume",
    "lesionwise_dice": "LesionWise_Score_Dice",
    "lesionwise_hd95": "LesionWise_Score_HD95",
}
COUNTS = {"num_tp", "num_fp", "num_fn"}
OFFICIAL = official_scores()

pytestmark = needs_pairs


@cache
def scored(task: str) -> CohortScores:
    return evaluate_folders(PAIRS / "predictions", PAIRS / "references", task_named(task), jobs=2)


@pytest.mark.parametrize("task", ["gli", "men"])
@pytest.mark.parametrize("case", sorted(OFFICIAL))
def test_every_column_is_that_of_the_official_program(case: str, task: str) -> None:
    expected = OFFICIAL[case][task.upper()]
    ours = scored(task).cases[case]
    assert list(ours) == ["WT", "TC", "ET"] == list(expected)
    for region, columns in ours.items():
        assert list(columns) == list(COLUMNS)
        for column, value in columns.items():
            tolerance = 0 if column in COUNTS else 1e-6
            assert abs(value - expected[region][COLUMNS[column]]) <= tolerance, (region, column)


@pytest.mark.parametrize("task", ["gli", "men"])
def test_the_mean_is_plain(task: str) -> None:
    for region, columns in scored(task).mean.items():
        for column, value in columns.items():
            numbers = [case[task.upper()][region][COLUMNS[column]] for case in OFFICIAL.values()]
            assert value == pytest.approx(sum(numbers) / 26, abs=1e-6)


def test_all_26_pairs_are_there() -> None:
    assert len(OFFICIAL) == 26
    assert list(scored("gli").cases) == sorted(OFFICIAL)
    assert scored("gli").missing == ()


@pytest.mark.parametrize("task", ["gli", "men"])
def test_the_means_over_the_lesions_are_the_lesionwise_scores(task: str) -> None:
    for case_id, regions in scored(task).lesions.items():
        for region, lesions in regions.items():
            columns = scored(task).cases[case_id][region]
            counts = [sum(one.status == status for one in lesions) for status in ("found", "false", "missed")]
            assert counts == [columns[name] for name in ("num_tp", "num_fp", "num_fn")]
            if lesions:
                assert columns["lesionwise_dice"] == pytest.approx(sum(one.dice for one in lesions) / len(lesions))
                assert columns["lesionwise_hd95"] == pytest.approx(sum(one.hd95 for one in lesions) / len(lesions))
