"""From a folder of predictions and one of references to the scores of every case and their mean."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from brats_infer.errors import CaseError, UsageError, printable
from brats_infer.evaluate.lesionwise import RegionScores, lesionwise_scores
from brats_infer.evaluate.pairs import Pair, find_pairs, read_known, read_reference
from brats_infer.evaluate.surface import Spacing
from brats_infer.system.console import Screen, say
from brats_infer.system.cores import usable_cores
from brats_infer.system.signals import held
from brats_infer.tasks import Task

METRICS = ("2023", "2026")
OWN_GRID = "write it on the grid of the images"
SPACING_DIGITS = 5  # an affine of 1 mm in float32 may give 0.9999999 mm, and lesions of 50 mm3 would change sides

Table = dict[str, dict[str, float]]
"""{region: {column: number}}"""
Labels = NDArray[np.uint8]
Result = TypeVar("Result")


@dataclass(frozen=True)
class CohortScores:
    """The scores of a cohort."""

    task: str
    metrics: str
    """One of `METRICS`."""
    cases: dict[str, Table]
    """By case ID, ascending; missing predictions with the worst scores."""
    mean: Table
    """Over all cases, as the challenge forms it."""
    missing: tuple[str, ...]
    """IDs of the references without a prediction, ascending."""


def evaluate_folders(
    predictions: Path,
    references: Path,
    task: Task,
    metrics: str = "2023",
    jobs: int | None = None,
    console: Console | None = None,
) -> CohortScores:
    """Scores `{ID}.nii.gz` against `{ID}-seg.nii.gz`, flat or in folders, as `find_pairs` finds them.

    `jobs` processes (as many as there are cores, if None) work at a time; progress goes to `console` (stderr, if None).
    With more than one, a script must call this under `if __name__ == "__main__":`, since each process imports it anew.
    A missing prediction gets the worst scores. Raises UsageError for unknown metrics, an unreadable folder, predictions
    without a reference and cases found twice; NoCasesError without references or without any prediction; CaseError,
    which names each file, for files that cannot be read, differ in their grid or hold labels that the task lacks.
    """
    if metrics not in METRICS:
        raise UsageError(f"unknown metrics {metrics!r}: choose one of {', '.join(METRICS)}")
    jobs = jobs or usable_cores()
    console = console or Screen()
    pairs = find_pairs(predictions, references)
    missing = tuple(pair.id for pair in pairs if pair.prediction is None)
    if metrics == "2026":
        from brats_infer.evaluate.brats2026 import find_programs, package_scores

        programs = find_programs(task)
        _each(verify_pair, pairs, task, jobs, console, "verified")
        with _progress("scored", len(pairs) - len(missing), console) as ended:
            cases, mean = package_scores(pairs, programs, jobs, lambda case_id: ended(case_id, "scored"))
    else:
        cases = _each(score_pair, pairs, task, jobs, console, "scored")
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
    """Reads a pair as `score_pair` does, and raises as it does, also for labels of 2021: others read the file."""
    read_pair(pair, task)
    read_known(pair.reference, task)


def mean_of(tables: Iterable[Table]) -> Table:
    """The plain mean over the cases, of every column of each region."""
    tables = list(tables)
    return {
        region: {column: float(np.mean([table[region][column] for table in tables])) for column in columns}
        for region, columns in tables[0].items()
    }


def _worst(scores: RegionScores, penalty: float) -> RegionScores:
    """What a region gets whose prediction is missing, even if there was nothing to find."""
    return replace(
        scores,
        sensitivity=0.0,
        specificity=0.0,
        legacy_dice=0.0,
        legacy_hd95=penalty,
        lesionwise_dice=0.0,
        lesionwise_hd95=penalty,
    )


def read_pair(pair: Pair, task: Task) -> tuple[Labels | None, Labels, Spacing]:
    """Prediction, reference (X, Y, Z) and spacing in mm, verified. Raises CaseError as `evaluate_folders` does."""
    reference, geometry = read_reference(pair.reference, task)
    x, y, z = (round(edge, SPACING_DIGITS) for edge in geometry.spacing)
    if pair.prediction is None:
        return None, reference, (x, y, z)
    prediction, predicted = read_known(pair.prediction, task)
    if difference := predicted.difference(geometry, pair.reference.name):
        raise CaseError(f"{pair.prediction}: {difference}: {OWN_GRID}")
    return prediction, reference, (x, y, z)


def _each(
    work: Callable[[Pair, Task], Result], pairs: list[Pair], task: Task, jobs: int, console: Console, verb: str
) -> dict[str, Result]:
    """{case ID: what the work gave}, in the order of the pairs. Raises CaseError with the faults of all cases."""
    results: dict[str, Result] = {}
    faults: list[str] = []
    pool = _pool(min(jobs, len(pairs)))
    try:
        with _progress(verb, len(pairs), console) as ended:
            with held():  # a pool that is interrupted while it starts can not even be shut down
                pending = {pool.submit(work, pair, task): pair.id for pair in pairs}
            for future in as_completed(pending):
                try:
                    results[pending[future]] = future.result()
                except CaseError as error:
                    faults.append(str(error))
                ended(pending[future], verb if pending[future] in results else "failed")
    except BrokenProcessPool as error:
        raise CaseError("a process was killed, perhaps for want of memory: give --jobs 1") from error
    finally:
        pool.shutdown(cancel_futures=True)
    if faults:
        raise CaseError(f"{len(faults)} of {len(pairs)} cases cannot be scored: {'; '.join(sorted(faults))}")
    return {pair.id: results[pair.id] for pair in pairs}


def _pool(jobs: int) -> Executor:
    """One job stays in this process; more get one each, started afresh since forks and threads do not mix."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker: Ctrl-C is the parent's business, and nobody is left behind when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def _progress(title: str, total: int, console: Console) -> Iterator[Callable[[str, str], None]]:
    """To be called with each ID that is done and how: a bar on a terminal, one plain line a case otherwise."""
    done = 0

    def ended(case_id: str, how: str) -> None:
        nonlocal done
        done += 1
        bar.advance(row)
        if not console.is_terminal:
            say(console, f"[{done}/{total}] {printable(case_id)}: {how}")

    with Progress(console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task(title, total=total)
        yield ended
