"""Scores a folder of predictions against a folder of references: every case and the mean."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from brats_infer.errors import UsageError
from brats_infer.evaluate.brats2026 import find_programs, package_scores
from brats_infer.evaluate.label_maps import read_pair
from brats_infer.evaluate.lesionwise import LesionScores, RegionScores, scores_and_lesions
from brats_infer.evaluate.metrics2024.region_scores import RegionScores2024, penalty_of, scores_2024, settings_of
from brats_infer.evaluate.pairs import Pair, find_pairs
from brats_infer.evaluate.processes import for_each, progress
from brats_infer.evaluate.scores import METRICS, CohortScores, LesionTable, Table, mean_of
from brats_infer.system.console import Screen
from brats_infer.system.cores import usable_cores
from brats_infer.tasks import Task, of_another_challenge


@dataclass(frozen=True)
class Scored:
    """The scores of 2023 or 2024 of one pair."""

    table: Table
    lesions: LesionTable
    warnings: tuple[str, ...]


def evaluate_folders(
    predictions: Path,
    references: Path,
    task: Task,
    metrics: str = "2023",
    jobs: int | None = None,
    console: Console | None = None,
) -> CohortScores:
    """Scores `{ID}.nii.gz` against `{ID}-seg.nii.gz`, flat or in folders, as `find_pairs` finds them.

    Raises UsageError for an unreadable folder, a prediction without a reference and a case found twice; NoCasesError
    without references or without predictions; and the errors of `evaluate_pairs`, whose arguments the others are.
    """
    return evaluate_pairs(find_pairs(predictions, references), task, metrics, jobs, console)


def evaluate_pairs(
    pairs: list[Pair], task: Task, metrics: str = "2023", jobs: int | None = None, console: Console | None = None
) -> CohortScores:
    """Scores pairs of label maps.

    `jobs` processes work at a time; None means one a core. Progress goes to `console`, by default stderr. A script must
    call this under `if __name__ == "__main__":`, since each process imports the script. A missing prediction gets the
    worst scores. Raises UsageError for metrics that are unknown or that the task has no settings for; CaseError, which
    names each file, for files that cannot be read, lie on different grids or hold labels that the task lacks.
    """
    if metrics not in METRICS:
        raise UsageError(f"unknown metrics {metrics!r}: choose one of {', '.join(METRICS)}")
    jobs = jobs or usable_cores()
    console = console or Screen()
    missing = tuple(pair.id for pair in pairs if pair.prediction is None)
    lesions: dict[str, LesionTable] = {}
    if metrics == "2026":
        programs = find_programs(task)
        warnings = for_each(verify_pair, pairs, task, jobs, console, "verified")
        with progress("scored", len(pairs) - len(missing), console) as ended:
            cases, mean = package_scores(pairs, task, programs, jobs, lambda case_id: ended(case_id, "scored"))
    else:
        if metrics == "2024":
            settings_of(task)  # refuses a task without them, in one line
        scored = for_each(partial(judge_pair, metrics=metrics), pairs, task, jobs, console, "scored")
        cases = {case_id: one.table for case_id, one in scored.items()}
        lesions = {case_id: one.lesions for case_id, one in scored.items()}
        warnings = {case_id: one.warnings for case_id, one in scored.items()}
        mean = mean_of(cases.values())
    doubt = of_another_challenge(list(cases), task.name)
    told = (
        *([f"{doubt}: the rules of {task.name} score them"] if doubt else []),
        *(warning for found in warnings.values() for warning in found),
    )
    return CohortScores(task.name, metrics, cases, mean, missing, lesions, told)


def score_pair(pair: Pair, task: Task, metrics: str = "2023") -> Table:
    """The scores of one pair. Raises CaseError as `evaluate_pairs` does."""
    return judge_pair(pair, task, metrics).table


def judge_pair(pair: Pair, task: Task, metrics: str = "2023") -> Scored:
    """The scores of 2023 or 2024 of one pair, its lesions, and warnings of its files.

    Raises CaseError as `evaluate_pairs`.
    """
    maps = read_pair(pair, task)
    prediction = np.zeros_like(maps.reference) if maps.prediction is None else maps.prediction
    found: Mapping[str, tuple[RegionScores | RegionScores2024, tuple[LesionScores, ...]]]
    if metrics == "2024":
        found = scores_2024(prediction, maps.reference, task, maps.geometry.spacing)
        penalty = penalty_of(task, prediction.shape)
    else:
        found = scores_and_lesions(prediction, maps.reference, task, maps.spacing)
        penalty = task.metrics.penalty_mm
    table = {region: asdict(values) for region, (values, _) in found.items()}
    if maps.prediction is None:
        table = {region: _worst(values, penalty) for region, values in table.items()}
    return Scored(table, {region: lesions for region, (_, lesions) in found.items()}, maps.warnings)


def verify_pair(pair: Pair, task: Task) -> tuple[str, ...]:
    """Warnings of a pair's files. Raises CaseError as `evaluate_pairs`."""
    return read_pair(pair, task).warnings


def _worst(scores: Mapping[str, float], penalty: float) -> dict[str, float]:
    """The scores of a region whose prediction is missing, also if the reference is empty."""
    lengths = {name: penalty for name in scores if name.endswith("hd95")}
    kept = {name: value for name, value in scores.items() if name.startswith("num_") or name == "reference_volume"}
    return {**dict.fromkeys(scores, 0.0), **lengths, **kept}
