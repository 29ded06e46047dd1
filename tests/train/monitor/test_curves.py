"""The table and the curves of a run."""

import csv
import time
from pathlib import Path
from typing import Any

import pytest

from brats_infer.train.monitor import curves
from brats_infer.train.monitor.curves import Curves, validation_csv


def entry_of(step: int, loss: float | None = 0.5) -> dict[str, Any]:
    scores = {"WT": {"dice": 0.5 + step, "hd95": 2.0}, "TC": {"dice": 0.25, "hd95": 4.0}}
    return {"step": step, "loss": loss, "score": 0.3, "cases": {"A": scores, "B": {"WT": scores["TC"]}}}


def test_table_has_a_row_for_each_validation_case_and_region() -> None:
    rows = list(csv.reader(validation_csv([entry_of(1), entry_of(2)]).splitlines()))
    assert rows[0] == ["step", "case", "region", "dice", "hd95"]
    assert rows[1:4] == [
        ["1", "A", "WT", "1.5", "2.0"],
        ["1", "A", "TC", "0.25", "4.0"],
        ["1", "B", "WT", "0.25", "4.0"],
    ]
    assert [row[0] for row in rows[1:]] == ["1"] * 3 + ["2"] * 3


def test_curves_are_what_tensorboard_reads(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Curves(tmp_path, 0) as first:
        first.add(entry_of(1), 0.01)
        first.add(entry_of(2), 0.01)
        first.add(entry_of(3), 0.02)
    time.sleep(1.1)  # tensorboard tells the order of its files by the second they were begun in
    with Curves(tmp_path, 2) as resumed:  # of a run that died behind its checkpoint of step 2
        resumed.add(entry_of(4, loss=None), 0.03)
    events = reader.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("learning rate")] == [(1, 0.01), (2, 0.01), (4, 0.03)]
    assert [(e.step, e.value) for e in events.Scalars("dice/WT")] == [(n, (n + 0.75) / 2) for n in (1, 2, 4)]
    assert [e.value for e in events.Scalars("loss")] == [0.5, 0.5]
    assert set(events.Tags()["scalars"]) == {
        "learning rate",
        "loss",
        "score",
        "dice/WT",
        "dice/TC",
        "hd95/WT",
        "hd95/TC",
    }


def test_without_tensorboard_there_are_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "find_spec", lambda _: None)
    with Curves(tmp_path, 0) as none:
        none.add(entry_of(1), 0.01)
    assert not list(tmp_path.iterdir())


def test_run_that_adds_nothing_leaves_no_file(tmp_path: Path) -> None:
    with Curves(tmp_path, 0):
        pass
    assert not list(tmp_path.iterdir())
