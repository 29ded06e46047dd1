"""Writes the scores of a cohort: a table on the terminal, CSV, JSON."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from brats_infer.errors import OutputError, printable
from brats_infer.evaluate.scores import CohortScores
from model.atomic import write_atomically

MEAN = "mean"
WIDEST = 1000


def columns(scores: CohortScores) -> list[str]:
    """`case`, `region`, then the columns of the scores in the official order."""
    first = next(iter(next(iter(scores.cases.values())).values()))
    return ["case", "region", *first]


def write_csv(scores: CohortScores, path: Path) -> None:
    """Writes a header and a row for each case and region, without rounding, without the mean. Raises OutputError."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns(scores), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(scores))
    _write(path, stream.getvalue())


def write_lesions(scores: CohortScores, path: Path) -> None:
    """Writes a row for each lesion and region, without rounding: the reference's lesions, then the false ones.

    Raises OutputError.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = ("dice", "hd95", "nsd_05", "nsd_10") if scores.metrics == "2024" else ("dice", "hd95")
    writer.writerow(("case", "region", "lesion", "volume_ml", *columns, "status"))
    for case_id, regions in scores.lesions.items():
        for region, lesions in regions.items():
            for number, one in enumerate(lesions, start=1):
                values = (getattr(one, name) for name in columns)
                writer.writerow((case_id, region, number, one.volume_mm3 / 1000, *values, one.status))
    _write(path, stream.getvalue())


def write_json(scores: CohortScores, path: Path) -> None:
    """Writes the rows under "cases", the mean of each region under "mean", IDs under "missing", and "warnings".

    NaN and infinite numbers, which only the metrics of 2026 have, become null. Raises OutputError.
    """
    content = {
        "task": scores.task,
        "metrics": scores.metrics,
        "cases": [_finite(row) for row in _rows(scores)],
        "mean": [_finite({"region": region, **values}) for region, values in scores.mean.items()],
        "missing": list(scores.missing),
        "warnings": list(scores.warnings),
    }
    _write(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def print_table(scores: CohortScores, width: int | None = None) -> None:
    """Prints cases, mean and missing IDs, `width` characters wide; None: as wide as the terminal."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=bool(sys.stdout) and sys.stdout.isatty(), highlight=False, width=width)
    table = Table(title=f"{scores.task}, metrics of {scores.metrics}, {len(scores.cases)} cases", box=SIMPLE_HEAD)
    for name in columns(scores):
        justify: JustifyMethod = "left" if name in ("case", "region") else "right"
        table.add_column(name.replace("_", "\n"), justify=justify, vertical="bottom", no_wrap=True)
    for row in _rows(scores):
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    table.add_section()
    for region, values in scores.mean.items():
        table.add_row(MEAN, region, *(_shown(value) for value in values.values()), style="bold")
    needed = Measurement.get(console, console.options.update(width=WIDEST), table).maximum
    console.width = max(console.width, needed)  # on a narrow terminal a broken line is better than a cut number
    console.print(table, crop=False)
    click.echo(text.getvalue(), nl=False)
    if scores.missing:
        missing = ", ".join(map(printable, scores.missing))
        click.echo(f"{len(scores.missing)} missing predictions got the worst scores: {missing}")


def _rows(scores: CohortScores) -> Iterator[dict[str, Any]]:
    for case_id, regions in scores.cases.items():
        for region, values in regions.items():
            yield {"case": case_id, "region": region, **values}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _shown(value: str | float) -> str:
    """Four digits behind the point for shares and lengths, one above 1000 (volumes), none for counts."""
    if not isinstance(value, float):
        return printable(str(value))
    return f"{value:.1f}" if value >= 1000 else f"{value:.4f}"


def _write(path: Path, text: str) -> None:
    """Writes to the target of a link. A pipe or a device, such as /dev/stdout, is written to, not replaced."""
    content = text.encode(errors="backslashreplace")  # IDs hold whatever stands in file names
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            write_atomically(path.resolve(), content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): choose another place") from error
