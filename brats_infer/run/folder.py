"""Runs many cases that overlap: reader threads ahead of the networks, writer threads behind them.

On the CPU the main thread computes, and Ctrl-C reaches it between two passes. One bad case never stops the others.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Semaphore
from typing import ParamSpec, TypeVar

from brats_infer.files.cases import Case
from brats_infer.network.ensemble import Lanes
from brats_infer.pipeline import Predicted, Read
from brats_infer.run.case import CaseRun, Shared
from brats_infer.run.events import CaseResult, Events

P = ParamSpec("P")
T = TypeVar("T")


class Here(Executor):
    """An executor that runs each call at once, in the calling thread."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done = Future[T]()
        done.set_result(fn(*args, **kwargs))
        return done


def run_cases(cases: Sequence[Case], shared: Shared, lanes: Lanes) -> Iterator[CaseResult]:
    """Segments cases and yields their results, in their order. Raises OutputError."""
    waiting = deque(cases)
    ahead: deque[tuple[CaseRun, Future[Read | CaseResult]]] = deque()
    writing: deque[Future[CaseResult]] = deque()
    room = Semaphore(lanes.computing)
    with (
        ThreadPoolExecutor(lanes.reading, "reader") as reader,
        Here() if lanes.computing == 1 else ThreadPoolExecutor(lanes.computing, "device") as computer,
        ThreadPoolExecutor(lanes.reading, "writer") as writer,
        ThreadPoolExecutor(1, "teller") as teller,
    ):

        def read_next() -> None:
            if waiting:
                run = CaseRun(waiting.popleft(), shared)
                ahead.append((run, reader.submit(run.read)))

        def predict(run: CaseRun, reading: Future[Read | CaseResult]) -> Predicted | CaseResult:
            try:
                return run.predict(reading.result())
            finally:
                room.release()

        def advance(run: CaseRun, reading: Future[Read | CaseResult]) -> Future[CaseResult]:
            computing = computer.submit(predict, run, reading)
            finishing = writer.submit(lambda: run.finish(computing.result()))
            return teller.submit(_tell, finishing, shared.events)

        try:
            for _ in range(lanes.reading):
                read_next()
            while ahead:
                room.acquire()
                read_next()
                writing.append(advance(*ahead.popleft()))
                # at most as many finished cases as writers wait for the disk
                yield from _ended(writing, lanes.reading + lanes.computing - 1)
            yield from _ended(writing, 0)
        finally:
            for ensemble in shared.ensembles.values():
                ensemble.stop()
            for threads in (reader, computer):
                threads.shutdown(wait=False, cancel_futures=True)


def _ended(writing: deque[Future[CaseResult]], most: int) -> Iterator[CaseResult]:
    """Yields the results of ended cases, in order; waits while more than `most` cases have not ended."""
    while writing and (writing[0].done() or len(writing) > most):
        yield writing.popleft().result()


def _tell(finished: Future[CaseResult], events: Events) -> CaseResult:
    """Reports a result in a thread of its own, so that no worker waits for a listener."""
    result = finished.result()
    events.result(result)
    return result
