"""The rows of an experiment as a table beside the paper's figures: CSV, Markdown, a picture."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from brats_infer.train.recipes import Figures, Place
from model.atomic import write_atomically

MEAN = "mean"
COLUMNS = ("ET", "TC", "WT", MEAN)


@dataclass(frozen=True)
class Row:
    """A row that was run."""

    place: Place
    here: Figures
    """Lesion-wise."""
    voxelwise: Figures
    """Of the whole tumor at once: `legacy_dice` and `legacy_hd95`."""
    paper: Figures | None
    """Lesion-wise; None in our own tables."""

    @property
    def lines(self) -> Iterator[tuple[str, Figures]]:
        """(source, figures) of each line of the row."""
        yield "here", self.here
        yield "here, voxel-wise", self.voxelwise
        if self.paper:
            yield "paper", self.paper


def write_tables(rows: Sequence[Row], folder: Path) -> None:
    """Writes table.csv and table.md, and table.png if matplotlib is installed."""
    header = ["row", "whose", *(f"Dice {c}" for c in COLUMNS), *(f"HD95 {c}" for c in COLUMNS)]
    lines = [line for row in rows for line in _lines(row)]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *lines])
    write_atomically(folder / "table.csv", stream.getvalue().encode())
    title = f"# {rows[0].place.table}: scores on the held-out cases, lesion-wise where nothing else is said"
    body = [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)]
    write_atomically(folder / "table.md", "\n".join([title, "", *body, ""]).encode())
    if find_spec("matplotlib"):  # of the extra `train`
        _draw(rows, folder / "table.png")


def _lines(row: Row) -> Iterator[list[str]]:
    """The cells of each line; a missing figure is blank."""
    for whose, figures in row.lines:
        numbers = [f"{figures.dice[c]:.4f}" if c in figures.dice else "" for c in COLUMNS]
        numbers += [f"{figures.hd95[c]:.2f}" if c in figures.hd95 else "" for c in COLUMNS]
        yield [row.place.name, whose, *numbers]


def _draw(rows: Sequence[Row], path: Path) -> None:
    """Bars of the mean Dice and HD95 of each row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 + 0.6 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    at = np.arange(len(rows))
    by_whose = [list(group) for group in zip(*(row.lines for row in rows), strict=True)]
    height = 0.8 / len(by_whose)
    for number, group in enumerate(by_whose):
        for axis, values in zip(axes, zip(*((f.dice, f.hd95) for _, f in group), strict=True), strict=True):
            axis.barh(at + height * (number + 0.5) - 0.4, [_mean(value) for value in values], height, label=group[0][0])
    axes[0].set_xlabel("Dice")
    axes[1].set_xlabel("HD95, mm")
    axes[0].set_yticks(at, [row.place.name for row in rows])
    axes[0].invert_yaxis()
    axes[0].legend()
    figure.savefig(path, dpi=100)


def _mean(values: dict[str, float]) -> float:
    """The given mean, else the mean of the regions; NaN without figures."""
    return values.get(MEAN, float(np.mean(list(values.values()))) if values else float("nan"))
