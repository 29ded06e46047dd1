"""The line of a validation, and the one of every minute."""

from typing import Any

import pytest

from brats_infer.train import progress
from brats_infer.train.config import TrainConfig
from brats_infer.train.progress import Pace, line_of
from model.unet import UNetConfig

CONFIG = TrainConfig(UNetConfig(channels=(3, 5)), "zscore", steps=1000, batch=2)
ENTRY: dict[str, Any] = {
    "step": 400,
    "loss": 0.8123,
    "patches_per_second": 0.5,
    "dice": 0.625,
    "hd95": 12.34,
    "cases": {"a": {}, "b": {}},
}


def test_line_says_step_loss_scores_speed_and_time_left() -> None:
    assert line_of(ENTRY, CONFIG) == (
        "step 400 of 1000; loss 0.812; Dice 0.625, HD95 12.3 mm on 2 held-out cases; 0.50 patches/s, 40 min left"
    )


def test_line_leaves_out_what_there_is_not() -> None:
    resumed = {**ENTRY, "loss": None, "patches_per_second": 0.0, "cases": {}}
    assert line_of(resumed, CONFIG) == "step 400 of 1000"


def test_pace_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    pace = Pace(batch=2, began=now, told=now)
    pace.steps += 2
    now = 150.0
    assert not pace.is_due()
    now = 160.0
    assert [pace.is_due(), pace.is_due()] == [True, False]
    entry = pace.entry(7, [0.5, 1.0])
    assert entry == {"step": 7, "loss": 0.75, "patches_per_second": 0.067}
    assert line_of(entry, CONFIG) == "step 7 of 1000; loss 0.750; 0.07 patches/s, 494 min left"
