"""The scores of 2026, computed by the organizers' own program (PyPI: brats-evaluation).

It runs as a subprocess in an environment of its own: it is under the AGPL, and it needs older versions of numpy, rich
and cc3d than this project. This module works around three faults of 0.0.10:
- It finds files by digits in their names, so cases of two challenges may be mixed up.
- It skips names without such digits.
- It leaves cases that it cannot score out of the mean without a message.
"""

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen, run
from tempfile import TemporaryDirectory
from typing import Any

from brats_infer.errors import CaseError, UsageError
from brats_infer.evaluate.label_maps import read_pair
from brats_infer.evaluate.pairs import Pair
from brats_infer.evaluate.scores import Table
from brats_infer.files.nifti import write_labels
from brats_infer.tasks import TASKS, Task

PROGRAMS = ("brats-evaluate", "brats-parse-metrics")
INSTALL = "install it into an environment of its own and put that on the PATH, as `pipx install brats-evaluation` does"


@dataclass(frozen=True)
class Programs:
    """The package's two programs, and the name of its settings for the task."""

    evaluate: str
    parse: str
    config: str


def find_programs(task: Task) -> Programs:
    """Finds the package. Raises UsageError where it is not installed or does not know the task."""
    if task.settings_2026 is None:
        known = ", ".join(other.name for other in TASKS.values() if other.settings_2026)
        raise UsageError(f"the metrics of 2026 have no settings for {task.name}, only for {known}")
    beside_python = str(Path(sys.executable).parent)
    evaluate, parse = (shutil.which(name) or shutil.which(name, path=beside_python) for name in PROGRAMS)
    if evaluate is None or parse is None:
        raise UsageError(f"the metrics of 2026 need the package brats-evaluation: {INSTALL}")
    return Programs(evaluate, parse, task.settings_2026)


def package_scores(
    pairs: Sequence[Pair], task: Task, programs: Programs, jobs: int, ended: Callable[[str], None]
) -> tuple[dict[str, Table], Table]:
    """Scores verified pairs of one challenge: {case ID: scores} and their mean, as the package forms them.

    The package also decides the scores of a missing prediction. Numbers may be NaN or infinite. NaN means that neither
    map holds the region; the package's mean leaves it out. `ended` is called with the ID of each case that has a
    prediction, as the package begins with it. Raises CaseError if the package fails or has no scores for a pair.
    """
    numbered = {f"{number:05d}-000.nii.gz": pair for number, pair in enumerate(pairs)}
    present = {name: pair for name, pair in numbered.items() if pair.prediction is not None}
    jobs = min(jobs, len(present))
    with TemporaryDirectory(prefix="brats-opt-") as temporary, ThreadPoolExecutor(jobs) as pool:
        folders = [Path(temporary) / f"part-{job}" for job in range(jobs)]
        for number, (name, pair) in enumerate(present.items()):
            _stage(folders[number % jobs], name, pair, task)
        parts = pool.map(lambda folder: _evaluate(folder, programs, lambda name: ended(present[name].id)), folders)
        entries = [entry for part in parts for entry in part]
        _check(entries, present)
        missing = [name for name in numbered if name not in present]
        tables = _parse({"metrics": entries, "missings": missing}, Path(temporary), programs)
    if lost := [pair.id for name, pair in numbered.items() if name not in tables]:
        raise CaseError(f"brats-evaluation left {', '.join(lost)} out without a word")
    return {pair.id: tables[name] for name, pair in numbered.items()}, tables["mean"]


def _stage(folder: Path, name: str, pair: Pair, task: Task) -> None:
    """Writes a pair into a folder, under a name that the package takes for a case ID.

    The package gets the maps as this project reads them: on one grid, as unscaled labels of the task.
    """
    maps = read_pair(pair, task)
    for side, labels in (("references", maps.reference), ("predictions", maps.prediction)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        if labels is not None:
            write_labels(folder / side / name, labels, maps.geometry)


def _evaluate(folder: Path, programs: Programs, ended: Callable[[str], None]) -> list[dict[str, Any]]:
    """Runs the package on a staged folder and returns its entries. Raises CaseError if it fails."""
    summary = folder / "summary.json"
    command = [programs.evaluate, "--config", programs.config, "--summary_json", str(summary)]
    command += ["--ref_path", str(folder / "references"), "--pred_path", str(folder / "predictions")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}  # else its lines come all at once at the end
    said: list[str] = []
    with Popen(command, stdout=PIPE, stderr=STDOUT, text=True, env=environment) as process:  # noqa: S603 - found by us
        for line in process.stdout or ():
            said.append(line.strip())
            if name := re.search(r"Evaluating (\S+)\.\.\.", line):
                ended(name[1])
    if process.returncode != 0 or not summary.exists():
        raise CaseError(f"brats-evaluation failed: {' / '.join(said[-3:])}")
    entries: list[dict[str, Any]] = json.loads(summary.read_text())["metrics"]
    return entries


def _check(entries: list[dict[str, Any]], present: dict[str, Pair]) -> None:
    """Raises CaseError with the names of the files that the package could not score."""
    errors = {str(entry.get("subject_name")): entry["error"] for entry in entries if "error" in entry}
    if errors:
        faults = "; ".join(f"{present[name].prediction}: {error}" for name, error in sorted(errors.items()))
        raise CaseError(f"brats-evaluation could not score {len(errors)} of {len(present)} cases: {faults}")


def _parse(summary: dict[str, Any], folder: Path, programs: Programs) -> dict[str, Table]:
    """{staged name, or "mean": scores}, which the package forms from its entries. Raises CaseError if it fails."""
    table, source = folder / "table.csv", folder / "summary.json"
    source.write_text(json.dumps(summary))
    command = [programs.parse, "seg", "--json_path", str(source), "--output_csv_path", str(table)]
    done = run(command, capture_output=True, text=True, check=False)  # noqa: S603 - found by us
    if done.returncode != 0 or not table.exists():
        raise CaseError(f"brats-evaluation failed: {' / '.join((done.stdout + done.stderr).splitlines()[-3:])}")
    with table.open(newline="") as stream:
        return {row.pop("subject_id"): _by_region(row) for row in csv.DictReader(stream)}


def _by_region(row: dict[str, str]) -> Table:
    """Sorts columns such as `global_dsc_wt` into regions."""
    regions: Table = {}
    for name, number in row.items():
        column, _, region = name.rpartition("_")
        regions.setdefault(region.upper(), {})[column] = float(number or "nan")
    return regions
