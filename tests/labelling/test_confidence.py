"""The Dice to expect of a mask under its own probabilities."""

import numpy as np
import pytest

from brats_infer.evaluate.lesionwise import lesionwise_scores
from brats_infer.labelling.confidence import FLOOR, OVERCONFIDENCE, UNSURE, expected_dice, is_unsure
from brats_infer.tasks import task_named

GLI = task_named("gli")


def test_its_root_is_the_mean_dice_over_tumors_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(FLOOR, 1, (12, 12, 12)).astype(np.float32)
    labels = np.where(p >= GLI.regions[2].threshold, 3, 0).astype(np.uint8)
    drawn = [np.where(rng.random(p.shape) < p, 3, 0).astype(np.uint8) for _ in range(200)]
    dices = [lesionwise_scores(labels, truth, GLI)["ET"].legacy_dice for truth in drawn]
    found = expected_dice(np.stack([p] * 3), labels, GLI)["ET"]
    assert found ** (1 / OVERCONFIDENCE) == pytest.approx(np.mean(dices), abs=0.005)


def test_certain_probabilities_expect_no_mistake() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2] = 3
    p = np.stack([(labels == 3).astype(np.float32)] * 3)
    assert expected_dice(p, labels, GLI) == {"WT": 1.0, "TC": 1.0, "ET": 1.0}
    assert expected_dice(p * 0, labels * 0, GLI) == {"WT": None, "TC": None, "ET": None}


def test_members_that_disagree_lower_it() -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6] = 3
    one, other = (labels == 3).astype(np.float32), np.roll(labels == 3, 2, axis=0).astype(np.float32)
    agreed, disputed = (expected_dice(np.stack([p] * 3), labels, GLI)["WT"] for p in (one, 0.6 * one + 0.4 * other))
    assert agreed == 1.0
    assert disputed == pytest.approx(0.8**OVERCONFIDENCE, abs=1e-3)


def test_faint_background_does_not_count() -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[10:20, 10:20, 10:20] = 3
    p = np.where(labels == 3, 1, FLOOR / 2).astype(np.float32)
    assert expected_dice(np.stack([p] * 3), labels, GLI)["WT"] == 1.0


def test_what_was_taken_out_of_the_map_does_not_count() -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[:3] = 3
    p = np.where(labels == 3, 1, 0).astype(np.float32)
    p[5:] = 0.6  # a component that was dropped
    assert expected_dice(np.stack([p] * 3), labels, GLI)["WT"] == 1.0


def test_unsure_is_a_matter_of_the_mean_over_what_is_there() -> None:
    assert is_unsure({"WT": UNSURE + 0.02, "TC": UNSURE - 0.05, "ET": None})
    assert not is_unsure({"WT": UNSURE + 0.05, "TC": UNSURE - 0.02, "ET": None})
    assert not is_unsure({"WT": None})


def test_it_equals_its_definition_over_all_voxels_of_the_brain() -> None:
    rng = np.random.default_rng(3)
    p = rng.random((3, 14, 12, 10)).astype(np.float32) ** 3
    labels = rng.choice([0, 0, 0, 1, 2, 3], p.shape[1:]).astype(np.uint8)
    brain = (rng.random(labels.shape) < 0.7) | (labels > 0)
    found = expected_dice(p, labels, GLI, brain)
    assert found == expected_dice(p * brain, labels, GLI)
    for region, q in zip(GLI.regions, p, strict=True):
        mask = np.isin(labels, region.labels)
        counted = (q >= FLOOR) & (mask | (q < region.threshold)) & brain
        dice = 2 * q[mask].sum() / (q[counted].sum() + mask.sum())
        assert found[region.name] == pytest.approx(dice**OVERCONFIDENCE, abs=1e-4)
