"""The foreman: gives cases to workers, replaces a worker that dies, and gives its cases out again."""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brats_infer.cluster.connection import LOCAL
from brats_infer.cluster.slots import Slot
from brats_infer.cluster.worker import Worker
from brats_infer.cohort import Plan
from brats_infer.errors import BratsOptError, CaseError
from brats_infer.files.cases import Case
from brats_infer.run.case import fail_case
from brats_infer.run.events import CaseResult
from brats_infer.system.signals import held

log = logging.getLogger(__name__)

TRIES = 3  # of a case whose worker dies, and of a slot whose workers die as they start
PATIENCE = 60  # seconds without any worker until the user is told


@dataclass
class Hired:
    """A worker as the foreman sees it."""

    actor: Any
    slot: Slot
    deaths: int
    """Workers in a row that died as they started, in the same slot, before this one."""
    calls: int = 0
    ready: bool = False
    alone: bool = False
    """Whether its only case is one of `suspects`."""


@dataclass(frozen=True)
class Call:
    """What a worker is asked for: to segment a case, or, without a case, to prepare."""

    worker: Hired
    case: Case | None = None
    deaths: int = 0
    """Workers that died with this case."""


class Foreman:
    """Gives out cases to workers, and gives them out again when a worker dies."""

    def __init__(self, cases: Sequence[Case], plan: Plan, mark: Path) -> None:
        self.plan, self.mark = plan, mark
        self.fresh = deque(cases)
        self.suspects: deque[tuple[Case, int]] = deque()
        """Cases whose worker died, with the number of deaths. Each runs alone: no other case takes the blame."""
        self.left = len(cases)
        self.workers: list[Hired] = []
        self.calls: dict[Any, Call] = {}
        self.patient_until = math.inf

    def run(self, slots: Sequence[Slot]) -> Iterator[CaseResult]:
        """Yields the result of each case as it comes."""
        with held():
            for slot in slots:
                self._hire(slot)
        while self.left:
            with held():  # Ray turns an exception raised inside its calls into another one
                result = self._step()
            if result:
                yield result

    def _step(self) -> CaseResult | None:
        """Waits up to a second for a result, then gives work to every worker with room. None: no result."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        done, _ = ray.wait(list(self.calls), timeout=1)
        if not done:
            self._warn_of_no_worker()
            return None
        call = self.calls.pop(done[0])
        call.worker.calls -= 1
        result = None
        try:
            result = ray.get(done[0])
            call.worker.ready = True
        except RayActorError as error:
            result = self._lost(call, error)
        except RayTaskError as error:
            raise error.cause from None
        self.left -= bool(result)
        for worker in self.workers:
            self._give(worker)
        return result

    def close(self) -> None:
        """Kills the workers: on their own they would end later, and might write until then."""
        import ray

        with held():
            for worker in self.workers:
                ray.kill(worker.actor)

    def _hire(self, slot: Slot, deaths: int = 0) -> None:
        import ray

        options = {"num_cpus": slot.cpus, "num_gpus": slot.gpus, "max_concurrency": slot.cases}
        device = "cuda" if slot.gpus else "cpu"
        worker = Hired(ray.remote(Worker).options(**options).remote(self.plan, self.mark, device), slot, deaths)
        self.workers.append(worker)
        self.patient_until = time.monotonic() + PATIENCE
        self._ask(worker.actor.prepare.remote(), Call(worker))

    def _give(self, worker: Hired) -> None:
        """Gives a worker as many cases as its slot allows; an idle one takes one of `suspects` first, alone."""
        if not worker.ready:
            return
        if not worker.calls:
            worker.alone = bool(self.suspects)
            if self.suspects:
                case, deaths = self.suspects.popleft()
                self._ask(worker.actor.segment.remote(case), Call(worker, case, deaths))
        while self.fresh and worker.calls < worker.slot.cases and not worker.alone:
            case = self.fresh.popleft()
            self._ask(worker.actor.segment.remote(case), Call(worker, case))

    def _ask(self, answer: Any, call: Call) -> None:
        call.worker.calls += 1
        self.calls[answer] = call

    def _warn_of_no_worker(self) -> None:
        if time.monotonic() > self.patient_until and not any(worker.ready for worker in self.workers):
            log.warning("warning: the Ray cluster has had no room for a worker yet: waiting (ray status shows why)")
            self.patient_until = math.inf

    def _lost(self, call: Call, error: Exception) -> CaseResult | None:
        """Replaces a dead worker. Its case is tried again, or, after `TRIES` deaths, fails: that result is returned."""
        if call.worker in self.workers:
            self._replace(call.worker, error)
        if call.case is None:
            return None
        if call.deaths + 1 < TRIES:
            self.suspects.append((call.case, call.deaths + 1))
            return None
        reason = f"{call.case.id}: {TRIES} workers died of it: give the run more memory, or run it without --ray to see"
        return fail_case(call.case, CaseError(reason), self.plan.output, self.plan.settings)

    def _replace(self, worker: Hired, error: Exception) -> None:
        import ray

        log.warning("warning: a worker has died: its cases are run again")
        log.debug("%s", error)
        ray.kill(worker.actor)  # it may be out of reach only, and must not write a case that another worker gets
        self.workers.remove(worker)
        deaths = 0 if worker.ready else worker.deaths + 1
        if deaths < TRIES:
            self._hire(worker.slot, deaths)
        elif not self.workers:
            raise BratsOptError(f"--ray: every worker dies as it starts: try --ray {LOCAL} --debug ({error})")
