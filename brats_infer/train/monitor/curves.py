"""The validations of a run as a table, and curves for TensorBoard."""

import csv
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

COLUMNS = ("step", "case", "region", "dice", "hd95")


def validation_csv(log: Sequence[dict[str, Any]]) -> str:
    """A header, and one row for each validation, case and region; HD95 in mm."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in log:
        for case_id, regions in entry["cases"].items():
            for region, scores in regions.items():
                writer.writerow((entry["step"], case_id, region, scores["dice"], scores["hd95"]))
    return stream.getvalue()


class Curves:
    """Curves for TensorBoard in the folder of a run, from a step on. Writes nothing if tensorboard is missing."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step
        self.writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer:
            self.writer.close()

    def add(self, entry: dict[str, Any], learning_rate: float) -> None:
        """Adds a validation: an entry of the log."""
        if not find_spec("tensorboard"):  # of the extra `train`
            return
        from torch.utils.tensorboard import SummaryWriter

        # created late: a finished run that starts again gets no empty file
        self.writer = self.writer or SummaryWriter(str(self.folder), purge_step=self.step + 1)
        values = {"learning rate": learning_rate, "score": entry["score"]}
        if entry["loss"] is not None:
            values["loss"] = entry["loss"]
        for name in ("dice", "hd95"):
            regions = _by_region(entry, name)
            values |= {f"{name}/{region}": float(np.mean(scores)) for region, scores in regions.items()}
        for name, value in values.items():
            self.writer.add_scalar(name, value, entry["step"])
        self.writer.flush()


def _by_region(entry: dict[str, Any], name: str) -> dict[str, list[float]]:
    """{region: the score of every case}"""
    found: dict[str, list[float]] = {}
    for regions in entry["cases"].values():
        for region, scores in regions.items():
            found.setdefault(region, []).append(scores[name])
    return found
