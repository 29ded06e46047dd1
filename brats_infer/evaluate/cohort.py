"""Scores a folder of predictions against a folder of references: every case and the mean."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from brats_infer.errors import UsageError
from brats_infer.evaluate.brats2026 import find_programs, package_scores
from brats_infer.evaluate.lesionwise import RegionScores, lesionwise_scores
from brats_infer.evaluate.pairs import Pair, find_pairs, read_known, read_pair
from brats_infer.evaluate.processes import for_each, progress
from brats_infer.evaluate.scores import METRICS, CohortScores, Table, mean_of
from brats_infer.system.console import Screen
from brats_infer.system.cores import usable_cores
from brats_infer.tasks import Task


def evaluate_folders(
    predictions: Path,
    references: Path,
    task: Task,
    metrics: str = "2023",
    jobs: int | None = None,
    console: Console | None = None,
) -> CohortScores:
    """Scores `{ID}.nii.gz` against `{ID}-seg.nii.gz`, flat or in folders, as `find_pairs` finds them.

    `jobs` processes work at a time; None means one a core. Progress goes to `console`, by default stderr. A script must
    call this under `if __name__ == "__main__":`, since each process imports the script. A missing prediction gets the
    worst scores. Raises UsageError for unknown metrics, an unreadable folder, a prediction without a reference and a
    case found twice; NoCasesError without references or without predictions; CaseError, which names each file, for
    files that cannot be read, lie on different grids or hold labels that the task lacks.
    """
    if metrics not in METRICS:
        raise UsageError(f"unknown metrics {metrics!r}: choose one of {', '.join(METRICS)}")
    jobs = jobs or usable_cores()
    console = console or Screen()
    pairs = find_pairs(predictions, references)
    missing = tuple(pair.id for pair in pairs if pair.prediction is None)
    if metrics == "2026":
        programs = find_programs(task)
        for_each(verify_pair, pairs, task, jobs, console, "verified")
        with progress("scored", len(pairs) - len(missing), console) as ended:
            cases, mean = package_scores(pairs, programs, jobs, lambda case_id: ended(case_id, "scored"))
    else:
        cases = for_each(score_pair, pairs, task, jobs, console, "scored")
        mean = mean_of(cases.values())
    return CohortScores(task.name, metrics, cases, mean, missing)


def score_pair(pair: Pair, task: Task) -> Table:
    """The scores of 2023 of one pair. Raises CaseError as `evaluate_folders` does."""
    prediction, reference, spacing = read_pair(pair, task)
    blank = np.zeros_like(reference)
    scores = lesionwise_scores(blank if prediction is None else prediction, reference, task, spacing)
    if prediction is None:
        scores = {region: _worst(values, task.metrics.penalty_mm) for region, values in scores.items()}
    return {region: asdict(values) for region, values in scores.items()}


def verify_pair(pair: Pair, task: Task) -> None:
    """Raises as `score_pair`, and also for labels of 2021, since another program reads the files."""
    read_pair(pair, task)
    read_known(pair.reference, task)


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
