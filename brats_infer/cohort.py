"""A folder of cases, or one case from four files: finds them, prepares the output folders, starts a runner."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from brats_infer.errors import UsageError, printable
from brats_infer.files.cases import Case
from brats_infer.files.resume import is_there
from brats_infer.files.search.find import case_of_files, find_cases
from brats_infer.files.search.tree import Links
from brats_infer.image.exchanged import exchanged
from brats_infer.labelling.confidence import confidence_in
from brats_infer.network.devices import limit_threads
from brats_infer.network.ensemble import Ensemble
from brats_infer.network.loading import (
    SHIPPED_WEIGHTS,
    load_ensemble,
    pick_device,
    tasks_with_member,
    without_member,
    working_on,
)
from brats_infer.pipeline import Labelled
from brats_infer.run.case import Shared
from brats_infer.run.events import CaseResult, Events, Start
from brats_infer.run.folder import run_cases
from brats_infer.settings import Missing, Settings
from brats_infer.system.folders import OUTPUT, prepare_folder
from brats_infer.tasks import Task, of_another_challenge

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The checked folders, tasks and settings of a run."""

    input: Path
    output: Path
    weights: Path
    tasks: tuple[Task, ...]
    device: str
    settings: Settings

    def shared(self, ensembles: dict[str, Ensemble], events: Events | None = None) -> Shared:
        """The data that all cases share in one process."""

        def is_done(case: Case) -> bool:
            return self.settings.resume and is_there(case, self.output, self.settings.probabilities)

        def judge(labelled: Labelled, task: Task) -> tuple[dict[str, float | None], tuple[str, ...]]:
            return confidence_in(labelled.labels, labelled.found, labelled.brain, labelled.restore, task)

        return Shared(self.output, self.settings, ensembles, is_done, events or Events(), judge, exchanged)


Runner = Callable[[Sequence[Case], Plan, Events], Iterator[CaseResult]]
"""Runs cases: reports the start and each result as events, and yields the results."""


def segment_folder(
    input_folder: Path | str,
    output_folder: Path | str,
    *,
    task: str = "auto",
    weights: Path | str = SHIPPED_WEIGHTS,
    device: str = "auto",
    settings: Settings | None = None,
    shard: tuple[int, int] = (1, 1),
    links: Links = Links.FOLLOW,
    channels: Sequence[str] = (),
    events: Events | None = None,
    runner: Runner | None = None,
) -> list[CaseResult]:
    """Segments every case of a folder; writes `{ID}.nii.gz` for each; returns the results, sorted by ID.

    `channels` names the contrasts of files that nnU-Net numbers, in order.
    `shard` (k, n) takes the k-th of n equal parts. `events` receives the run's progress. `runner` None runs the cases
    in this process; `brats_infer.cluster.runner.on_ray` returns a runner for Ray.
    Raises UsageError, NoCasesError, WeightsError or OutputError before any case is read; later only OutputError.
    """
    input_folder, output_folder, weights = Path(input_folder), Path(output_folder), Path(weights)
    settings = settings or Settings()
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"shard={shard}: give (k, n) with 1 <= k <= n")
    if links not in set(Links):
        raise UsageError(f"links={links!r}: choose one of {', '.join(Links)}")
    cases = find_cases(input_folder, task, Links(links), channels)
    warning = of_another_challenge([case.id for case in cases], task) if task != "auto" else None
    heard = events or Events()

    def start(known: Start) -> None:  # the weights are there: a run that ends before its work says one line alone
        if warning:
            log.warning("%s", printable(f"warning: {warning}"))
        heard.start(known)

    taken = {"the input folder": input_folder}
    return _segment(
        cases[shard[0] - 1 :: shard[1]],
        taken,
        Plan(input_folder, output_folder, weights, (), device, settings),
        replace(heard, start=start),
        runner or _run_here,
    )


def segment_files(
    images: Mapping[str, Path],
    label_map: Path,
    *,
    task: str = "auto",
    weights: Path | str = SHIPPED_WEIGHTS,
    device: str = "auto",
    settings: Settings | None = None,
    events: Events | None = None,
) -> CaseResult:
    """Segments one case from its four files, {contrast: file}; writes the map `label_map`, whose name is the case's ID.

    `task` "auto" takes the challenge from that ID or from the names of the files. Raises as `segment_folder`.
    """
    settings = settings or Settings()
    case = case_of_files(images, label_map, task, whole=settings.missing is Missing.FAIL)
    plan = Plan(label_map.parent, label_map.parent, Path(weights), (), device, settings)
    return _segment([case], {}, plan, events, _run_here)[0]


def _segment(
    cases: Sequence[Case], taken: Mapping[str, Path], plan: Plan, events: Events | None, runner: Runner
) -> list[CaseResult]:
    """Prepares the output folders, which must differ from `taken`, and runs the cases; results are sorted by ID."""
    prepare_folder(plan.output, "--output", taken)
    if plan.settings.probabilities:
        prepare_folder(plan.settings.probabilities, "--probabilities", {**taken, OUTPUT: plan.output})
    known = tasks_with_member(plan.weights)
    with_task = [case for case in cases if case.task]
    if with_member := [case for case in with_task if case.task and case.task.name in known]:
        cases, with_task = [_judged(case, known, plan.weights) for case in cases], with_member
    sound = [case for case in with_task if not case.problem or case.lacks] or with_task  # weights are always checked
    tasks = {case.task.name: case.task for case in sound if case.task}
    plan = replace(plan, tasks=tuple(tasks.values()))
    return sorted(runner(cases, plan, events or Events()), key=lambda result: result.id)


def _judged(case: Case, known: Collection[str], weights: Path) -> Case:
    """The case; that its task is none of the `known` ones, which have a member, is its problem."""
    if case.task is None or case.task.name in known or (case.problem and not case.lacks):
        return case
    return replace(case, problem=f"{case.id}: {without_member(weights, case.task)}", lacks=False)


def load_ensembles(plan: Plan, device: torch.device) -> dict[str, Ensemble]:
    """{task name: ensemble} for each task of the plan, on the usable cores. Raises WeightsError."""
    limit_threads()
    return {task.name: load_ensemble(plan.weights, task, device) for task in plan.tasks}


def start_of(cases: Sequence[Case], device: str, ensembles: dict[str, Ensemble]) -> Start:
    """The start event of a run."""
    return Start(tuple(cases), device, tuple(member for each in ensembles.values() for member in each.members))


def _run_here(cases: Sequence[Case], plan: Plan, events: Events) -> Iterator[CaseResult]:
    """The runner of one process; yields in the order of the cases."""
    device = pick_device(plan.device)
    ensembles = load_ensembles(plan, device)
    events.start(start_of(cases, str(device), ensembles))
    with working_on(device) as lanes:
        yield from run_cases(cases, plan.shared(ensembles, events), lanes)
