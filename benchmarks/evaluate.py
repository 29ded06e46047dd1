"""How long the official scores take: seconds a pair on one core, reading included, and memory.

    python benchmarks/evaluate.py [--task gli] [--metrics 2023] [--pairs FOLDER] [--repeats 1] [--jobs 2]

FOLDER holds `predictions` and `references`; without it the pairs of ../shared (or $BRATS_OPT_SHARED) are used. The
official program takes 4 to 12 s for each of them.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from brats_infer.evaluate import evaluate_folders
from brats_infer.evaluate.folder_scores import score_pair
from brats_infer.evaluate.pairs import find_pairs
from brats_infer.tasks import TASKS, task_named

SHARED = Path(os.environ.get("BRATS_OPT_SHARED", Path(__file__).parents[1].parent / "shared"))
GOAL_SECONDS, GOAL_MB = 0.4, 700


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="gli")
    parser.add_argument("--metrics", choices=("2023", "2024"), default="2023")
    parser.add_argument("--pairs", type=Path, default=SHARED / "metrics" / "pairs")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=0, help="also time the whole cohort with as many processes")
    given = parser.parse_args()
    folders = given.pairs / "predictions", given.pairs / "references"
    if not given.pairs.is_dir():
        sys.exit(f"{given.pairs} is absent: give --pairs")
    if given.jobs:
        start = time.perf_counter()
        evaluate_folders(*folders, task_named(given.task), given.metrics, jobs=given.jobs, console=Console(quiet=True))
        print(f"{given.jobs} processes: {time.perf_counter() - start:.1f} s for the cohort, starting them included")
        print(f"peak memory of a process: {peak_mb(resource.RUSAGE_CHILDREN):.0f} MB")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    one_core(folders, given.task, given.metrics, given.repeats)


def one_core(folders: tuple[Path, Path], task: str, metrics: str, repeats: int) -> None:
    """Prints the fastest of some runs for each pair, and their mean."""
    wall, processor = [], []
    for pair in find_pairs(*folders):
        runs = [timed(lambda pair=pair: score_pair(pair, task_named(task), metrics)) for _ in range(repeats)]
        wall.append(min(run[0] for run in runs))
        processor.append(min(run[1] for run in runs))
        print(f"{pair.id}  {wall[-1]:.3f} s  ({processor[-1]:.3f} s of processor time)")
    print(f"mean of {len(wall)} pairs on one core: {sum(wall) / len(wall):.3f} s", end=" ")
    print(f"({sum(processor) / len(wall):.3f} s of processor time; goal {GOAL_SECONDS} s)")
    print(f"peak memory: {peak_mb(resource.RUSAGE_SELF):.0f} MB (goal {GOAL_MB} MB)")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def peak_mb(who: int) -> float:
    """The largest resident memory so far, in MB; of the largest child for RUSAGE_CHILDREN."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(who).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    main()
