"""Work on many pairs in several processes, with a progress bar."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from brats_infer.errors import CaseError, printable
from brats_infer.evaluate.pairs import Pair
from brats_infer.system.console import say
from brats_infer.system.signals import held
from brats_infer.tasks import Task

Result = TypeVar("Result")


def for_each(
    work: Callable[[Pair, Task], Result], pairs: list[Pair], task: Task, jobs: int, console: Console, verb: str
) -> dict[str, Result]:
    """{case ID: the work's result}, in the order of the pairs. Raises CaseError with the faults of all cases."""
    results: dict[str, Result] = {}
    faults: list[str] = []
    pool = _pool(min(jobs, len(pairs)))
    try:
        with progress(verb, len(pairs), console) as ended:
            with held():  # a pool that is interrupted while it starts cannot be shut down
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
    """A thread of this process for one job, else processes. They are spawned: fork is unsafe with threads."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """In a worker process: ignores Ctrl-C, which the parent handles, and exits when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def progress(title: str, total: int, console: Console) -> Iterator[Callable[[str, str], None]]:
    """Yields a function to call with (ID, outcome) as each case ends: a bar on a terminal, else a line a case."""
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
