"""report.json and report.csv. schema.json, beside this file, and docs/report.md describe them."""

import csv
import io
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from brats_infer import __version__
from brats_infer.image.quality import SKULL_LEFT
from brats_infer.labelling.confidence import UNSURE_MAP, is_unsure
from brats_infer.pipeline import FROM_OTHERS
from brats_infer.report.picture import COLOURS
from brats_infer.run.events import CaseResult, Status
from brats_infer.tasks import MODALITIES, T1C, TASKS, Task
from model.atomic import write_atomically
from model.config import Member

SCHEMA_VERSION = 1
LOW_DICE = 0.6
"""A case of a lower mean lesion-wise Dice is flagged, and the page colours lower numbers."""
LOW_EXPECTED_DICE = 0.5
"""The page colours a region's expected Dice below it."""
SCHEMA = Path(__file__).with_name("schema.json")
FLAGS = {SKULL_LEFT: "skull", FROM_OTHERS: "absent contrast"}
"""{ending of a warning: its flag}"""
NO_CASES = ["id", "task", "status", "flags", "message", "warnings"]
"""The columns of a table without rows: those that do not depend on the challenge."""


@dataclass(frozen=True)
class Seen:
    """What the report found in a case beside its result."""

    regions: dict[str, float] = field(default_factory=dict)
    """Volumes, ml."""
    labels: dict[str, float] = field(default_factory=dict)
    """Volumes, ml."""
    lesions: Sequence[dict[str, Any]] = ()
    seconds: float = 0.0
    picture: str | None = None
    """Its path in the report's folder, or None."""
    viewer: str | None = None
    """The path of the viewer's volumes, or None."""


def head(kind: str) -> dict[str, Any]:
    """The first entries of every report; `kind` is "run" or "scores"."""
    return {
        "schema": SCHEMA_VERSION,
        "kind": kind,
        "version": __version__,
        "labels": legend_of(next(iter(TASKS.values()))),
        "contrasts": [{"name": modality.name, "title": modality.title} for modality in MODALITIES],
        "first_contrast": T1C.name,
        "limits": {"low_dice": LOW_DICE, "low_expected_dice": LOW_EXPECTED_DICE},
        "tasks": {task.name: task_record(task) for task in TASKS.values()},
    }


def task_record(task: Task) -> dict[str, Any]:
    """One entry of "tasks"."""
    return {
        "title": task.title,
        "regions": {region.name: list(region.labels) for region in task.regions},
        "labels": legend_of(task),
        "contrasts": [modality.name for modality in task.modalities],
        "penalty_mm": task.metrics.penalty_mm,
    }


def legend_of(task: Task) -> list[dict[str, Any]]:
    """The labels of a task with their names and colours."""
    return [{"value": n, "name": task.name_of(n), "colour": COLOURS[n]} for n in task.labels]


def case_record(result: CaseResult, seen: Seen) -> dict[str, Any]:
    """One entry of "cases"."""
    counts = {name: sum(lesion["region"] == name for lesion in seen.lesions) for name in seen.regions}
    return {
        "id": result.id,
        "task": result.task,
        "status": result.status.value,
        "flags": flags_of(result, seen.regions),
        "message": result.message,
        "warnings": list(result.warnings),
        "seconds": {name: round(s, 3) for name, s in {**result.seconds, "report": seen.seconds}.items()},
        "labels_ml": seen.labels,
        "regions_ml": seen.regions,
        "lesion_counts": counts,
        "expected_dice": result.expected_dice,
        "lesions": list(seen.lesions),
        "picture": seen.picture,
        "viewer": seen.viewer,
    }


def flags_of(result: CaseResult, volumes: Mapping[str, float]) -> list[str]:
    """The reasons to look at this case, the gravest first; none for most cases. `volumes` are those of the regions."""
    if result.status in (Status.FAILED, Status.BLANK):
        return [result.status.value]
    flags = []
    if volumes and not any(volumes.values()):
        flags.append("empty")
    elif is_unsure(result.expected_dice):
        flags.append("unsure")
    others = [warning for warning in result.warnings if UNSURE_MAP not in warning]
    for ending, flag in FLAGS.items():
        if any(warning.endswith(ending) for warning in others):
            flags.append(flag)
    if any(not warning.endswith(tuple(FLAGS)) for warning in others):
        flags.append("odd input")
    return flags


def member_record(member: Member) -> dict[str, Any]:
    return {name: getattr(member, name) for name in ("task", "fold", "file", "sha256", "licence")}


def peak_memory() -> dict[str, int]:
    """{"host": bytes, "device": bytes}: the peaks of this process so far; device only if a GPU was used."""
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if used := max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())), default=0):
        found["device"] = used
    return found


def to_json(content: object) -> str:
    """JSON that is safe inside a web page, since a file name can hold a tag."""
    return json.dumps(content, indent=1, allow_nan=False).replace("<", "\\u003c")


def write_record(folder: Path, content: dict[str, Any]) -> None:
    """Writes report.json and report.csv. Raises OSError."""
    write_atomically(folder / "report.json", (to_json(content) + "\n").encode())
    rows = [flat(case) for case in content["cases"]]
    columns = list(dict.fromkeys(column for row in rows for column in row)) or NO_CASES
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "report.csv", stream.getvalue().encode(errors="backslashreplace"))


def flat(case: dict[str, Any]) -> dict[str, Any]:
    """A row of the table. Nested objects become columns such as `regions_ml WT`, lists are joined, no lesions."""
    row: dict[str, Any] = {}
    for name, value in case.items():
        if name in ("lesions", "picture", "viewer"):
            continue
        if isinstance(value, dict):
            for inner, cell in value.items():
                row |= (
                    {f"{name} {inner} {k}": v for k, v in cell.items()}
                    if isinstance(cell, dict)
                    else {f"{name} {inner}": cell}
                )
        else:
            row[name] = plain("; ".join(value)) if isinstance(value, list) else plain(value)
    return row


def plain(value: Any) -> Any:
    """Quotes text that a spreadsheet would take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
