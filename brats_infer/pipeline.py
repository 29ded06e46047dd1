"""The straight line: read -> preprocess -> predict -> restore -> label -> clean -> write.

Reader threads work ahead of the device and writer threads behind it, one of each where it is the CPU; none needs shared
memory.
One bad case never stops the others.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from brats_infer.cases import Case, find_cases
from brats_infer.devices import CPU, limit_threads, pick_device
from brats_infer.earlier import is_whole, probabilities_are_whole
from brats_infer.endings import CaseResult, Status, fail_case
from brats_infer.ensemble import SHIPPED_WEIGHTS, Ensemble, Prepared, load_ensemble
from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.folders import OUTPUT, prepare_folder
from brats_infer.outcome import NO_TUMOR, Outcome, inside_brain, label_map, outcome_of, probability_maps
from brats_infer.postprocess import tidy
from brats_infer.preprocess import Cropped, crop_to_brain
from brats_infer.settings import Settings
from brats_infer.tasks import Task
from brats_infer.volume import read_images, write_labels, write_probabilities
from brats_infer.volumetry import label_volumes
from brats_infer.watch import Finished, Start, Watcher

log = logging.getLogger(__name__)

CASES_BESIDE_A_GPU = 4
"""Read at once, and cleaned and written at once: either takes a core longer than a GPU takes for a case's windows."""


@dataclass(frozen=True)
class Ready:
    """A case on its way to the device, or what already became of it."""

    case: Case
    result: CaseResult | None = None
    cropped: Cropped | None = None
    prepared: Prepared | None = None
    seconds: dict[str, float] = field(default_factory=dict)


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
    in this process, or as `brats_infer.scale.on_ray` says.
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
    results = (runner or _run_here)(cases, plan, watcher)
    return sorted(results, key=lambda result: result.id)


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
    ahead: deque[Future[Ready]] = deque()
    beside = 1 if device == CPU else CASES_BESIDE_A_GPU
    with (
        ThreadPoolExecutor(beside, "reader") as reader,
        ThreadPoolExecutor(beside, "writer") as writer,
        ThreadPoolExecutor(1, "teller") as teller,
    ):

        def read_next() -> None:
            if waiting:
                ahead.append(reader.submit(read_case, waiting.popleft(), ensembles, output, settings, watcher))

        try:
            for _ in range(beside):
                read_next()
            while ahead:
                ready = ahead.popleft().result()
                read_next()
                while writing and writing[0].done():
                    yield writing.popleft().result()
                finishing = predict_case(ready, ensembles, writer, output, settings, watcher)
                writing.append(teller.submit(_tell, finishing, watcher))
                if (
                    len(writing) > beside
                ):  # no more finished cases than writers wait for the disk while the device goes on
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _tell(finished: Future[CaseResult], watcher: Watcher) -> CaseResult:
    """In a thread of its own, so that nobody waits for the device to hear of the case before; in their order."""
    result = finished.result()
    watcher.result(result)
    return result


def read_case(case: Case, ensembles: dict[str, Ensemble], output: Path, settings: Settings, watcher: Watcher) -> Ready:
    """In the reader thread: everything up to the network's input."""
    began = time.perf_counter()
    watcher.stage(case.id, "read")
    try:
        if settings.resume and _is_there(case, output, settings):
            return Ready(case, result=CaseResult(case.id, Status.SKIPPED, case.task.name if case.task else None))
        if case.problem:
            raise CaseError(case.problem)
        images = read_images(case.paths.values())
        read = time.perf_counter()
        assert case.task
        cropped = crop_to_brain(images)
        prepared = ensembles[case.task.name].prepare(cropped)
        seconds = {"read": read - began, "preprocess": time.perf_counter() - read}
        return Ready(case, None, cropped, prepared, seconds)
    except Exception as error:
        return Ready(case, result=fail_case(case, error, output, settings))


def _is_there(case: Case, output: Path, settings: Settings) -> bool:
    """Whether an earlier run has written all that this one would, whatever has become of the images since."""
    labels, others = output / case.output_name, settings.probabilities
    return is_whole(labels, case) and (
        others is None or probabilities_are_whole(others / case.output_name, labels, case)
    )


def predict_case(
    ready: Ready,
    ensembles: dict[str, Ensemble],
    writer: ThreadPoolExecutor,
    output: Path,
    settings: Settings,
    watcher: Watcher,
) -> Future[CaseResult]:
    """In the main thread: the network and its thresholds; then hands over to the writer."""
    case, cropped, prepared = ready.case, ready.cropped, ready.prepared
    if ready.result:
        return writer.submit(lambda result: result, ready.result)
    assert cropped
    assert prepared
    assert case.task
    watcher.stage(case.id, "network")
    began = time.perf_counter()
    warnings = list(cropped.warnings)
    try:
        probabilities = ensembles[case.task.name].predict(
            prepared, settings, lambda text: warnings.append(f"{case.id}: {text}")
        )
        keep = _probabilities_go_out(settings, watcher) or settings.component_probability > 0
        outcome = outcome_of(probabilities, cropped.restore, case.task, keep)
    except Exception as error:
        return writer.submit(fail_case, case, error, output, settings)
    seconds = {**ready.seconds, "network": time.perf_counter() - began}
    done = replace(
        ready,
        cropped=replace(cropped, warnings=tuple(warnings)),
        prepared=replace(prepared, inputs={}),  # whose memory the next case can have
        seconds=seconds,
    )
    return writer.submit(_finish, done, outcome, output, settings, watcher)


def _probabilities_go_out(settings: Settings, watcher: Watcher) -> bool:
    return settings.probabilities is not None or watcher.finished is not None


def _finish(done: Ready, outcome: Outcome, output: Path, settings: Settings, watcher: Watcher) -> CaseResult:
    """In the writer thread: everything behind the network."""
    began = time.perf_counter()
    case, cropped, prepared = done.case, done.cropped, done.prepared
    assert cropped
    assert prepared
    assert case.task
    task, geometry = case.task, cropped.restore.geometry
    watcher.stage(case.id, "finish")
    clean = partial(tidy, task=task, voxel_mm3=geometry.voxel_mm3, settings=settings)
    try:
        going_out = cropped.restore.resampled or _probabilities_go_out(settings, watcher)
        found = inside_brain(outcome, prepared.brain, probabilities=going_out)
        labels = label_map(found, cropped.restore, task, clean)
        cleaned = time.perf_counter()
        if settings.probabilities:
            maps = probability_maps(found, cropped.restore)
            write_probabilities(settings.probabilities / case.output_name, maps, geometry)
        write_labels(output / case.output_name, labels, geometry)
    except OutputError:
        raise
    except Exception as error:
        return fail_case(case, error, output, settings)
    warnings = cropped.warnings
    if not labels.any():
        warnings = (*warnings, f"{case.id}: {NO_TUMOR}")
    millilitres = label_volumes(labels, task, geometry.voxel_mm3)
    seconds = {**done.seconds, "clean": cleaned - began, "write": time.perf_counter() - cleaned}
    if watcher.finished:
        assert found.probabilities is not None
        watcher.finished(Finished(case, cropped, found.probabilities, labels))
    return CaseResult(case.id, Status.WRITTEN, task.name, "", warnings, seconds, millilitres)
