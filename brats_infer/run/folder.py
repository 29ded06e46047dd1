"""A folder of cases through the stages of `brats_infer.run.case`, one case overlapping with the next.

Reader threads work ahead of the device and writer threads behind it, one of each where it is the CPU. A GPU has several
threads, so that it never waits for its next case; beside the CPU the main thread computes, which hears Ctrl-C between
two passes. None needs shared memory. One bad case never stops the others.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Semaphore
from typing import ParamSpec, TypeVar

import torch

from brats_infer.errors import UsageError
from brats_infer.files.cases import Case, find_cases
from brats_infer.files.folders import OUTPUT, prepare_folder
from brats_infer.network.devices import CPU, limit_threads, pick_device, release_memory
from brats_infer.network.ensemble import SHIPPED_WEIGHTS, Ensemble, load_ensemble
from brats_infer.run.case import Underway, finish_case, predict_case, read_case
from brats_infer.run.events import Start, Watcher
from brats_infer.run.results import CaseResult
from brats_infer.settings import Settings
from brats_infer.system.cores import usable_cores
from brats_infer.tasks import Task

MOST_AT_ONCE = 8
AT_THE_GPU = 5
"""Cases: one is computed, the next one waits in the GPU's own queue, others are brought there and fetched."""
SHORT_TURN = 5e-4  # seconds, for 5e-3; measured in docs/performance.md
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What a run is to do, its folders and tasks known to be right."""

    input: Path
    output: Path
    weights: Path
    tasks: tuple[Task, ...]
    device: str
    settings: Settings


Runner = Callable[[Sequence[Case], Plan, Watcher], Iterator[CaseResult]]
"""Tells the watcher when all is ready and how each case has ended, and yields the endings."""


def segment_folder(
    input_folder: Path | str,
    output_folder: Path | str,
    *,
    task: str = "auto",
    weights: Path | str = SHIPPED_WEIGHTS,
    device: str = "auto",
    settings: Settings | None = None,
    shard: tuple[int, int] = (1, 1),
    watcher: Watcher | None = None,
    runner: Runner | None = None,
) -> list[CaseResult]:
    """Segments every case of a folder; writes `{ID}.nii.gz` for each; returns their endings, sorted by ID.

    `shard` (k, n) takes the k-th of n equal parts. `watcher` is told what happens. `runner` is where the cases are run:
    in this process, or as `brats_infer.cluster.foreman.on_ray` says.
    Raises UsageError, NoCasesError, WeightsError or OutputError before any case is read; later only OutputError.
    """
    input_folder, output_folder, weights = Path(input_folder), Path(output_folder), Path(weights)
    settings, watcher = settings or Settings(), watcher or Watcher()
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"shard={shard}: give (k, n) with 1 <= k <= n")
    cases = find_cases(input_folder, task)[shard[0] - 1 :: shard[1]]
    taken = {"the input folder": input_folder}
    prepare_folder(output_folder, "--output", taken)
    if settings.probabilities:
        prepare_folder(settings.probabilities, "--probabilities", {**taken, OUTPUT: output_folder})
    with_task = [case for case in cases if case.task]
    sound = [case for case in with_task if not case.problem] or with_task  # weights are looked at in any case
    tasks = {case.task.name: case.task for case in sound if case.task}
    plan = Plan(input_folder, output_folder, weights, tuple(tasks.values()), device, settings)
    results = sorted((runner or _run_here)(cases, plan, watcher), key=lambda result: result.id)
    release_memory()
    return results


def load_ensembles(plan: Plan, device: torch.device) -> dict[str, Ensemble]:
    """{name: the ensemble} of each task of the plan, on the cores there are. Raises WeightsError."""
    limit_threads()
    return {task.name: load_ensemble(plan.weights, task, device) for task in plan.tasks}


def start_of(cases: Sequence[Case], device: str, ensembles: dict[str, Ensemble]) -> Start:
    """What is known before the first case."""
    return Start(len(cases), device, tuple(member for each in ensembles.values() for member, _ in each.members))


def _run_here(cases: Sequence[Case], plan: Plan, watcher: Watcher) -> Iterator[CaseResult]:
    """The runner of one process; yields in the order of the cases."""
    device = pick_device(plan.device)
    ensembles = load_ensembles(plan, device)
    waiting = deque(cases)
    watcher.start(start_of(cases, str(device), ensembles))
    output, settings = plan.output, plan.settings
    writing: deque[Future[CaseResult]] = deque()
    ahead: deque[Future[Underway]] = deque()
    at_once, computed_at_once = _cases_at_once(device), 1 if device == CPU else AT_THE_GPU
    with (
        nullcontext() if device == CPU else _short_turns(),
        ThreadPoolExecutor(at_once, "reader") as reader,
        Here() if device == CPU else ThreadPoolExecutor(computed_at_once, "device") as computer,
        ThreadPoolExecutor(at_once, "writer") as writer,
        ThreadPoolExecutor(1, "teller") as teller,
    ):
        room, ended = Semaphore(computed_at_once), Event()

        def read_next() -> None:
            if waiting:
                ahead.append(reader.submit(read_case, waiting.popleft(), ensembles, output, settings, watcher))

        def check() -> None:
            if ended.is_set():
                raise GivenUp

        def predict(reading: Future[Underway]) -> Underway:
            try:
                return predict_case(reading.result(), ensembles, output, settings, watcher, check)
            finally:
                room.release()

        def advance(reading: Future[Underway]) -> Future[CaseResult]:
            computing = computer.submit(predict, reading)
            finishing = writer.submit(lambda: finish_case(computing.result(), output, settings, watcher))
            return teller.submit(_tell, finishing, watcher)

        try:
            for _ in range(at_once):
                read_next()
            while ahead:
                room.acquire()
                read_next()
                writing.append(advance(ahead.popleft()))
                # no more finished cases than writers wait for the disk
                yield from _ended(writing, at_once + computed_at_once - 1)
            yield from _ended(writing, 0)
        finally:
            ended.set()
            for threads in (reader, computer):
                threads.shutdown(wait=False, cancel_futures=True)


def _ended(writing: deque[Future[CaseResult]], most: int) -> Iterator[CaseResult]:
    """Takes out those that have ended, in their order; waits where more than `most` have not."""
    while writing and (writing[0].done() or len(writing) > most):
        yield writing.popleft().result()


class GivenUp(BaseException):
    """In a thread of the device: the run ends, and nobody waits for the case."""


class Here(Executor):
    """Does what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done = Future[T]()
        done.set_result(fn(*args, **kwargs))
        return done


@contextmanager
def _short_turns() -> Iterator[None]:
    """Threads wait less for Python's lock: those of a GPU ask for it before each of many small steps."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _cases_at_once(device: torch.device) -> int:
    """How many are read at once, and cleaned and written: either takes a core longer than a GPU takes for a case."""
    return 1 if device == CPU else min(MOST_AT_ONCE, max(2, usable_cores() // 2))


def _tell(finished: Future[CaseResult], watcher: Watcher) -> CaseResult:
    """In a thread of its own, so that nobody waits for the device to hear of the case before; in their order."""
    result = finished.result()
    watcher.result(result)
    return result
