"""One cohort on many machines: Ray keeps a worker on every GPU, or every few cores, and the next free one takes a case.

Nothing but cases and their endings travels: every machine reads the input and the weights, and writes the output, under
the same names. A worker that dies is replaced, and its cases are given out again.
"""

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brats_infer.cluster.connection import LOCAL, joined
from brats_infer.cluster.worker import Worker
from brats_infer.cohort import Plan, Runner, load_ensembles, start_of
from brats_infer.errors import BratsOptError, CaseError, UsageError
from brats_infer.files.cases import Case
from brats_infer.network.devices import CPU
from brats_infer.run.case import fail_case
from brats_infer.run.events import CaseResult, Events
from brats_infer.system.signals import held
from model.atomic import Mark, marked, remove_leftovers

log = logging.getLogger(__name__)

CORES = 4  # of a worker without a GPU, where OMP_NUM_THREADS does not say
AT_ONCE = 3  # cases of a worker, of which one is read, one computed, one written
AT_ONCE_WITH_GPU = 8  # for which a case is far less work than for those who read and write it
TRIES = 3  # of a case whose worker dies, and of a worker that dies as it starts
PATIENCE = 60  # seconds without any worker until the user is told
ENDING = 20  # seconds that workers are given to end once they are killed: one may be out of reach


@dataclass(frozen=True)
class Slot:
    """What one worker asks the cluster for."""

    cpus: int
    gpus: int

    @property
    def cases(self) -> int:
        """How many its worker has at once."""
        return AT_ONCE_WITH_GPU if self.gpus else AT_ONCE


def on_ray(address: str) -> Runner:
    """Runs cases on the Ray cluster at HOST:PORT, or on one of this machine that lasts as long as the run ("local")."""

    def run(cases: Sequence[Case], plan: Plan, watcher: Events) -> Iterator[CaseResult]:
        """In the order in which cases end.

        Raises UsageError if there is no such cluster or it has not the device, WeightsError as a plain run does,
        OutputError if a machine sees another output folder, BratsOptError if every worker dies as it starts.
        """
        cases, plan = _absolute(cases, plan)
        ensembles = load_ensembles(plan, CPU)  # says what is wrong with them before any machine is asked
        start = start_of(cases, plan.device, ensembles)
        if not cases:
            watcher.start(start)
            return
        with ExitStack() as stack:
            mark = stack.enter_context(marked(plan.output))
            afterwards = stack.enter_context(ExitStack())
            nodes = stack.enter_context(joined(address))
            afterwards.callback(_tidy_up, plan, mark)  # a worker may go on until Ray has left
            slots = find_slots(nodes, plan.device)[: len(cases)]
            watcher.start(start)
            foreman = stack.enter_context(closing(_Foreman(cases, plan, mark.path)))
            for result in foreman.run(slots):
                watcher.result(result)
                yield result

    return run


def find_slots(nodes: Sequence[Mapping[str, Any]], device: str) -> list[Slot]:
    """One for each GPU of a cluster; where there is none, or the CPU is asked for, one for every few cores.

    `nodes` as `ray.nodes()` tells them. Raises UsageError.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: Ray deals out the GPUs: choose auto, cpu or cuda with --ray")
    found = [node["Resources"] for node in nodes if node["Alive"]]
    sizes = [(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in found]
    if device != "cpu" and any(gpus for _, gpus in sizes):
        return [Slot(cpus // gpus, 1) for cpus, gpus in sizes for _ in range(gpus)]
    if device == "cuda":
        raise UsageError("--device cuda: the Ray cluster has no GPU: choose auto or cpu")
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(wanted) if wanted.isdecimal() and int(wanted) else CORES
    slots = [Slot(min(cpus, cores), 0) for cpus, _ in sizes if cpus for _ in range(max(1, cpus // cores))]
    if not slots:
        raise UsageError("--ray: the cluster offers no processor: start Ray with --num-cpus")
    return slots


@dataclass
class _Hired:
    """A worker as the foreman sees it."""

    actor: Any
    slot: Slot
    deaths: int
    """Of those that had its slot before it and died as they started, one after the other."""
    calls: int = 0
    ready: bool = False
    alone: bool = False
    """It has a case that others died of."""


@dataclass(frozen=True)
class _Call:
    """What a worker has been asked for: a case, or to get ready."""

    worker: _Hired
    case: Case | None = None
    deaths: int = 0
    """Of workers that had this case."""


class _Foreman:
    """Gives out cases, and gives them out again when a worker dies."""

    def __init__(self, cases: Sequence[Case], plan: Plan, mark: Path) -> None:
        self.plan, self.mark = plan, mark
        self.fresh = deque(cases)
        self.suspects: deque[tuple[Case, int]] = deque()
        """Cases whose worker died, and how many did: each is now the only one of its worker, so that none is blamed for
        another."""
        self.left = len(cases)
        self.workers: list[_Hired] = []
        self.calls: dict[Any, _Call] = {}
        self.patient_until = math.inf

    def run(self, slots: Sequence[Slot]) -> Iterator[CaseResult]:
        """Yields the ending of each case as it comes."""
        with held():
            for slot in slots:
                self._hire(slot)
        while self.left:
            with held():  # an exception raised inside Ray's calls comes out as another one
                result = self._step()
            if result:
                yield result

    def _step(self) -> CaseResult | None:
        """The ending of a case, where one comes within a second; everybody who can has work then."""
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
        """Ends the workers at once: on their own they would notice later, and might still be writing then."""
        import ray

        with held():
            for worker in self.workers:
                ray.kill(worker.actor)

    def _hire(self, slot: Slot, deaths: int = 0) -> None:
        import ray

        options = {"num_cpus": slot.cpus, "num_gpus": slot.gpus, "max_concurrency": slot.cases}
        device = "cuda" if slot.gpus else "cpu"
        worker = _Hired(ray.remote(Worker).options(**options).remote(self.plan, self.mark, device), slot, deaths)
        self.workers.append(worker)
        self.patient_until = time.monotonic() + PATIENCE
        self._ask(worker.actor.prepare.remote(), _Call(worker))

    def _give(self, worker: _Hired) -> None:
        """As many cases as it can have at once, or one that others died of when it has nothing else."""
        if not worker.ready:
            return
        if not worker.calls:
            worker.alone = bool(self.suspects)
            if self.suspects:
                case, deaths = self.suspects.popleft()
                self._ask(worker.actor.segment.remote(case), _Call(worker, case, deaths))
        while self.fresh and worker.calls < worker.slot.cases and not worker.alone:
            case = self.fresh.popleft()
            self._ask(worker.actor.segment.remote(case), _Call(worker, case))

    def _ask(self, answer: Any, call: _Call) -> None:
        call.worker.calls += 1
        self.calls[answer] = call

    def _warn_of_no_worker(self) -> None:
        if time.monotonic() > self.patient_until and not any(worker.ready for worker in self.workers):
            log.warning("warning: the Ray cluster has had no room for a worker yet: waiting (ray status shows why)")
            self.patient_until = math.inf

    def _lost(self, call: _Call, error: Exception) -> CaseResult | None:
        """Its worker has died: another one is hired, and the case goes back, or has had its last try."""
        if call.worker in self.workers:
            self._replace(call.worker, error)
        if call.case is None:
            return None
        if call.deaths + 1 < TRIES:
            self.suspects.append((call.case, call.deaths + 1))
            return None
        reason = f"{call.case.id}: {TRIES} workers died of it: give the run more memory, or run it without --ray to see"
        return fail_case(call.case, CaseError(reason), self.plan.output, self.plan.settings)

    def _replace(self, worker: _Hired, error: Exception) -> None:
        import ray

        log.warning("warning: a worker has died: its cases are run again")
        log.debug("%s", error)
        ray.kill(worker.actor)  # it may only be out of reach, and must not go on with a case that another one gets
        self.workers.remove(worker)
        deaths = 0 if worker.ready else worker.deaths + 1
        if deaths < TRIES:
            self._hire(worker.slot, deaths)
        elif not self.workers:
            raise BratsOptError(f"--ray: every worker dies as it starts: try --ray {LOCAL} --debug ({error})")


def _tidy_up(plan: Plan, mark: Mark) -> None:
    """Leaves no worker of this run, nor what it was writing when it was killed."""
    mark.wait_for_holders(ENDING)
    for folder in (plan.output, plan.settings.probabilities):
        if folder:
            remove_leftovers(folder, elsewhere_s=0)


def _absolute(cases: Sequence[Case], plan: Plan) -> tuple[list[Case], Plan]:
    """The same with absolute paths: workers are started in other folders."""
    settings = plan.settings
    if settings.probabilities:
        settings = replace(settings, probabilities=settings.probabilities.absolute())
    folders = {name: getattr(plan, name).absolute() for name in ("input", "output", "weights")}
    return [
        replace(case, paths={name: path.absolute() for name, path in case.paths.items()}) for case in cases
    ], replace(plan, settings=settings, **folders)
