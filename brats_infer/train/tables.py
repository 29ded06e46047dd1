"""The rows of an experiment as a table in the paper's form: CSV, Markdown, and a picture."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from brats_infer.train.recipes import Published
from model.atomic import write_atomically

MEAN = "mean"
COLUMNS = ("ET", "TC", "WT", MEAN)
OURS, PAPER = "here", "paper"


@dataclass(frozen=True)
class Row:
    """A row that was run."""

    name: str
    """Of the recipe."""
    paper: Published
    dice: dict[str, float]
    """Lesion-wise, {region or "mean": mean over the held-out cases}"""
    hd95: dict[str, float]
    """The same in mm."""


def write_tables(rows: Sequence[Row], folder: Path) -> None:
    """Writes table.csv and table.md, and table.png where matplotlib is installed."""
    header = ["row", "whose", *(f"Dice {c}" for c in COLUMNS), *(f"HD95 {c}" for c in COLUMNS)]
    lines = [line for row in rows for line in _lines(row)]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *lines])
    write_atomically(folder / "table.csv", stream.getvalue().encode())
    title = f"# Table {rows[0].paper.table}: lesion-wise scores on the held-out cases, and the paper's figures"
    body = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
    write_atomically(folder / "table.md", "\n".join([title, "", *body, ""]).encode())
    if find_spec("matplotlib"):  # of the extra `report`
        _draw(rows, folder / "table.png")


def _lines(row: Row) -> Iterator[list[str]]:
    """Ours and the paper's, a blank where the paper gives no figure."""
    for whose, dice, hd95 in ((OURS, row.dice, row.hd95), (PAPER, row.paper.dice, row.paper.hd95)):
        numbers = [f"{dice[c]:.4f}" if c in dice else "" for c in COLUMNS]
        numbers += [f"{hd95[c]:.2f}" if c in hd95 else "" for c in COLUMNS]
        yield [row.paper.row, whose, *numbers]


def _draw(rows: Sequence[Row], path: Path) -> None:
    """Bars of the mean Dice and HD95 of each row; of the paper's regions the mean, where it gives none itself."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 + 0.6 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    at = np.arange(len(rows))
    for axis, label, ours, paper in (
        (axes[0], "lesion-wise Dice", [row.dice for row in rows], [row.paper.dice for row in rows]),
        (axes[1], "lesion-wise HD95, mm", [row.hd95 for row in rows], [row.paper.hd95 for row in rows]),
    ):
        for shift, whose, values in ((-0.2, OURS, ours), (0.2, PAPER, paper)):
            axis.barh(at + shift, [_mean(value) for value in values], 0.38, label=whose)
        axis.set_xlabel(label)
    axes[0].set_yticks(at, [row.paper.row for row in rows])
    axes[0].invert_yaxis()
    axes[0].legend()
    figure.savefig(path, dpi=100)


def _mean(values: dict[str, float]) -> float:
    """The mean that is given, else that of the regions; NaN for nothing."""
    return values.get(MEAN, float(np.mean(list(values.values()))) if values else float("nan"))
