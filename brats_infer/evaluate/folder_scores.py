"""Scores a folder of predictions against a folder of references: every case and the mean."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from brats_infer.errors import UsageError
from brats_infer.evaluate.brats2026 import find_programs, package_scores
from brats_infer.evaluate.label_maps import read_pair
from brats_infer.evaluate.lesionwise import RegionScores, scores_and_lesions
from brats_infer.evaluate.pairs import Pair, find_pairs
from brats_infer.evaluate.processes import for_each, progress
from brats_infer.evaluate.scores import METRICS, CohortScores, LesionTable, Table, mean_of
from brats_infer.system.console import Screen
from brats_infer.system.cores import usable_cores
from brats_infer.tasks import Task, of_another_challenge


@dataclass(frozen=True)
class Scored:
    """The scores of 2023 of one pair."""

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
    worst scores. Raises UsageError for unknown metrics; CaseError, which names each file, for files that cannot be
    read, lie on different grids or hold labels that the task lacks.
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
        scored = for_each(judge_pair, pairs, task, jobs, console, "scored")
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


def score_pair(pair: Pair, task: Task) -> Table:
    """The scores of 2023 of one pair. Raises CaseError as `evaluate_pairs` does."""
    return judge_pair(pair, task).table


def judge_pair(pair: Pair, task: Task) -> Scored:
    """The scores of 2023 of one pair, its lesions, and warnings of its files. Raises CaseError as `evaluate_pairs`."""
    maps = read_pair(pair, task)
    prediction = np.zeros_like(maps.reference) if maps.prediction is None else maps.prediction
    found = scores_and_lesions(prediction, maps.reference, task, maps.spacing)
    scores = {region: one for region, (one, _) in found.items()}
    if maps.prediction is None:
        scores = {region: _worst(values, task.metrics.penalty_mm) for region, values in scores.items()}
    table = {region: asdict(values) for region, values in scores.items()}
    return Scored(table, {region: lesions for region, (_, lesions) in found.items()}, maps.warnings)


def verify_pair(pair: Pair, task: Task) -> tuple[str, ...]:
    """Warnings of a pair's files. Raises CaseError as `evaluate_pairs`."""
    return read_pair(pair, task).warnings


def _worst(scores: RegionScores, penalty: float) -> RegionScores:
    """The scores of a region whose prediction is missing, also if the reference is empty."""
    return replace(
        scores,
        sensitivity=0.0,
        specificity=0.0,
        legacy_dice=0.0,
        legacy_hd95=penalty,
        lesionwise_dice=0.0,
        lesionwise_hd95=penalty,
    )
