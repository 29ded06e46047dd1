"""The first line, the line of a validation, and the one of every minute."""

from typing import Any

import pytest
import torch

from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split, TrainingCase
from brats_infer.train.monitor import pace as progress
from brats_infer.train.monitor.pace import Pace, first_line, line_of
from brats_infer.train.run_config import TrainConfig

CONFIG = TrainConfig(TrainOptions(steps=1000, batch=2, patch=96))
ENTRY: dict[str, Any] = {
    "step": 400,
    "loss": 0.8123,
    "patches_per_second": 0.5,
    "dice": 0.625,
    "hd95": 12.34,
    "cases": {"a": {}, "b": {}},
}
CASE = TrainingCase("a", torch.zeros(5, 1, 1, 1), torch.zeros(3, 1, 1, 1, dtype=torch.bool), ())


@pytest.mark.parametrize(
    ("split", "share", "told"),
    [
        (Split((CASE,) * 3, (CASE,) * 2), 0.7, "3 cases, 2 held out"),
        (Split((CASE,) * 3, (), phantoms=(CASE,) * 5), 0.7, "3 cases and 5 phantoms (70% of the patches), 0 held out"),
        (Split((CASE,) * 3, (), phantoms=(CASE,) * 5), 0.0, "3 cases, 0 held out"),
        (Split((CASE,) * 3, (CASE,), phantoms=(CASE,) * 5), 1.0, "5 phantoms, 1 held out"),
        (Split((), (CASE,), phantoms=(CASE,) * 5), 0.7, "5 phantoms, 1 held out"),
        (
            Split((CASE,), (CASE,), fresh=lambda seed, device: CASE),
            0.25,
            "1 case and new phantoms (25% of the patches), 1 held out",
        ),
        (Split((), (CASE,), fresh=lambda seed, device: CASE), 0.7, "new phantoms, 1 held out"),
    ],
)
def test_first_line_says_what_is_trained_on(split: Split, share: float, told: str) -> None:
    config = CONFIG.with_options(phantom_share=share)
    assert first_line(config, split) == f"training on {told}; 1000 steps of 2 patches of 96^3"


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
