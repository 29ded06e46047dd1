"""Lesion by lesion, against the official counts."""

import numpy as np
import pytest

from brats_infer.evaluate.lesionwise import lesionwise_scores
from brats_infer.report.lesions import Part, judge, scored_regions
from brats_infer.tasks import task_named

GLI = task_named("gli")
REGIONS = scored_regions(GLI, "2023")
ET = REGIONS[2]
ONE_MM = (1.0, 1.0, 1.0)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A lesion half found, one missed, one too small to count, and a false component."""
    prediction, reference = np.zeros((60, 50, 40), np.uint8), np.zeros((60, 50, 40), np.uint8)
    reference[5:15, 5:15, 5:15] = 3
    prediction[10:20, 5:15, 5:15] = 3
    reference[40:50, 30:40, 5:15] = 3
    reference[5:7, 40:42, 30:32] = 3
    prediction[40:45, 10:15, 30:35] = 3
    return prediction, reference


def test_lesions_are_found_missed_false_or_too_small() -> None:
    parts, lesions = judge(*scene(), ET, ONE_MM, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert [(lesion["outcome"], lesion["reference_ml"], lesion["ml"]) for lesion in lesions] == [
        ("tp", 1.0, 1.0),
        ("ignored", 0.008, 0.0),
        ("fn", 1.0, 0.0),
        ("fp", 0.0, 0.125),
    ]
    assert lesions[0]["dice"] == 0.5
    x, y, z = lesions[2]["mm"]
    assert parts[int(-x), int(-y), int(z)] == Part.MISSED
    assert np.bincount(parts.ravel()).tolist()[1:] == [500, 500, 500, 125, 1000 + 8]


@pytest.mark.parametrize(("voxels", "outcome"), [(25, "ignored"), (26, "fn")])
def test_lesions_are_measured_in_cubic_millimetres(voxels: int, outcome: str) -> None:
    """Of 2 mm3 a voxel: 50 mm3 are too small to count, 52 are not."""
    true = np.zeros((60, 12, 12), np.uint8)
    true[2 : 2 + voxels, 5, 5] = 3
    _, [lesion] = judge(np.zeros_like(true), true, ET, (1.0, 1.0, 2.0), np.diag([1.0, 1.0, 2.0, 1.0]))
    assert (lesion["outcome"], lesion["reference_ml"]) == (outcome, pytest.approx(voxels * 0.002))


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_mean_are_the_official_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        labels = np.zeros((48, 40, 36), np.uint8)
        for _ in range(5):
            corner, size = rng.integers(0, 30, 3), rng.integers(2, 9, 3)
            labels[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = rng.integers(1, 4)
        maps.append(labels)
    for region in REGIONS:
        official = lesionwise_scores(maps[0], maps[1], GLI)[region.name]
        _, lesions = judge(maps[0], maps[1], region, ONE_MM, np.eye(4))
        outcomes = [lesion["outcome"] for lesion in lesions]
        assert (outcomes.count("tp"), outcomes.count("fp"), outcomes.count("fn")) == (
            official.num_tp,
            official.num_fp,
            official.num_fn,
        )
        counted = [lesion["dice"] for lesion in lesions if lesion["outcome"] != "ignored"]
        assert (np.mean(counted) if counted else 1.0) == pytest.approx(official.lesionwise_dice, abs=1e-4)
