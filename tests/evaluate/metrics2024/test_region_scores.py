"""The scores of 2024 on maps small enough to count by hand; official numbers are in `test_official2024.py`."""

import math
from pathlib import Path

import numpy as np
import pytest

from brats_infer.errors import UsageError
from brats_infer.evaluate import LesionScores2024, RegionScores2024, evaluate_folders
from brats_infer.evaluate.metrics2024.region_scores import scores_2024
from brats_infer.tasks import TASKS
from tests.case_files import write_image

SHAPE = (30, 40, 12)
DIAGONAL = math.hypot(*SHAPE)


def boxes(*sides: tuple[int, int]) -> np.ndarray:
    """A map of label 1 with columns of that (first, number) of voxels along the second axis, 2 x 1 voxels thick."""
    labels = np.zeros(SHAPE, np.uint8)
    for start, count in sides:
        labels[10:12, start : start + count, 5] = 1
    return labels


def gtv(prediction: np.ndarray, reference: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> RegionScores2024:
    return scores_2024(prediction, reference, "men-rt", spacing)["GTV"][0]


def test_a_found_and_a_missed_lesion() -> None:
    scores, lesions = scores_2024(boxes((0, 30)), boxes((0, 26), (33, 7)), "ped")["ET"]
    assert (scores.num_tp, scores.num_fp, scores.num_fn) == (1, 0, 0)  # 7 voxels apart: one lesion of ped
    assert lesions == (LesionScores2024("found", 66.0, scores.legacy_dice, *_lengths(scores)),)
    assert scores.legacy_dice == scores.lesionwise_dice == 2 * 52 / (60 + 66)
    men, lesions = scores_2024(boxes((0, 30)), boxes((0, 26), (33, 26)), "men-rt")["GTV"]
    assert (men.num_tp, men.num_fp, men.num_fn) == (1, 0, 0)  # the second one has 14 voxels in the volume
    assert [lesion.status for lesion in lesions] == ["found"]
    assert men.lesionwise_dice == 2 * 52 / (60 + 52)


def _lengths(scores: RegionScores2024) -> tuple[float, float, float]:
    return scores.lesionwise_hd95, scores.lesionwise_nsd_05, scores.lesionwise_nsd_10


def test_false_positives_count_except_in_men_rt() -> None:
    prediction, reference = boxes((0, 30)), boxes()
    found = gtv(prediction, reference)
    assert (found.num_fp, found.lesionwise_dice, found.lesionwise_hd95, found.lesionwise_nsd_10) == (1, 1, 0, 1)
    assert (found.sensitivity, found.legacy_dice, found.legacy_nsd_05) == (0, 0, 0)
    assert found.legacy_hd95 == DIAGONAL
    scores = scores_2024(prediction, reference, "ped")["ET"][0]
    assert (scores.num_fp, scores.lesionwise_dice, scores.lesionwise_hd95, scores.lesionwise_nsd_10) == (1, 0, 374, 0)


def test_a_prediction_on_a_lesion_too_small_to_count_is_nothing() -> None:
    scores = scores_2024(boxes((0, 6)), boxes((0, 5)), "ped")["ET"][0]
    assert (scores.num_tp, scores.num_fp, scores.num_fn, scores.lesionwise_dice) == (0, 0, 0, 1)
    assert scores.legacy_dice == 20 / 22


@pytest.mark.parametrize(("count", "stays"), [(25, False), (26, True)])
def test_men_rt_drops_predictions_by_volume_and_ped_by_voxels(count: int, stays: bool) -> None:
    """Voxels of 1 mm3, then of 2: 50 mm3 are 50 voxels and 25."""
    reference = boxes((0, 30))
    assert (gtv(boxes((0, count)), reference).legacy_dice > 0) == stays
    assert gtv(boxes((0, 13)), reference, (1.0, 1.0, 2.0)).legacy_dice > 0
    ped = [scores_2024(boxes((0, n)), reference, "ped", (1.0, 1.0, 2.0))["ET"][0] for n in (5, 6)]
    assert [scores.legacy_dice > 0 for scores in ped] == [False, True]


def test_two_empty_maps_are_perfect() -> None:
    for scores, lesions in scores_2024(boxes(), boxes(), "gli-post").values():
        shares = (scores.sensitivity, scores.specificity, scores.legacy_dice, scores.legacy_nsd_05)
        assert shares == (scores.lesionwise_dice, scores.lesionwise_nsd_05, scores.lesionwise_nsd_10, 1) == (1, 1, 1, 1)
        assert (scores.legacy_hd95, scores.lesionwise_hd95, lesions) == (0, 0, ())


def test_a_missing_prediction_gets_the_worst_of_every_score(tmp_path: Path) -> None:
    for side, name, labels in (
        ("ref", "BraTS-MET-00001-000-seg", boxes((0, 30))),
        ("ref", "BraTS-MET-00002-000-seg", boxes((0, 30))),
        ("pred", "BraTS-MET-00002-000", boxes((0, 30))),
    ):
        (tmp_path / side).mkdir(exist_ok=True)
        write_image(tmp_path / side / f"{name}.nii.gz", labels)
    scores = evaluate_folders(tmp_path / "pred", tmp_path / "ref", TASKS["met"], metrics="2024", jobs=1)
    assert list(scores.mean) == ["WT", "TC", "ET", "RC"]
    assert scores.cases["BraTS-MET-00002-000"]["WT"]["lesionwise_dice"] == 1
    for region in scores.cases["BraTS-MET-00001-000"].values():
        assert region["legacy_hd95"] == region["lesionwise_hd95"] == DIAGONAL
        worst = {name: v for name, v in region.items() if "hd95" not in name and name[:3] not in ("num", "ref")}
        assert set(worst.values()) == {0.0}
    with pytest.raises(UsageError, match="the metrics of 2024 have no settings for men"):
        evaluate_folders(tmp_path / "pred", tmp_path / "ref", TASKS["men"], metrics="2024", jobs=1)
