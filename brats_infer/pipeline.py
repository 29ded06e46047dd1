"""The straight line: read -> preprocess -> predict -> restore -> label -> clean -> write.

A reader thread works one case ahead of the device and a writer thread one behind it; neither needs shared memory.
One bad case never stops the others.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_infer.cases import Case, find_cases, is_safe_id
from brats_infer.devices import is_out_of_memory, pick_device
from brats_infer.earlier import is_whole, remove_older
from brats_infer.ensemble import SHIPPED_WEIGHTS, Ensemble, load_ensemble
from brats_infer.errors import CaseError, OutputError, printable
from brats_infer.folders import prepare_folder
from brats_infer.geometry import Geometry
from brats_infer.labels import labels_from_probabilities
from brats_infer.postprocess import clean_some
from brats_infer.preprocess import Cropped, crop_to_brain, restore_probabilities
from brats_infer.settings import OnError, Settings
from brats_infer.tasks import GRID_AFFINE, GRID_SHAPE
from brats_infer.volume import read_geometry, read_images, write_labels, write_probabilities
from brats_infer.volumetry import label_volumes
from brats_infer.watch import Finished, Start, Watcher

log = logging.getLogger(__name__)


class Status(StrEnum):
    """How a case ended."""

    WRITTEN = "written"
    SKIPPED = "skipped"
    BLANK = "blank"
    FAILED = "failed"


@dataclass(frozen=True)
class CaseResult:
    """How one case ended."""

    id: str
    status: Status
    task: str | None = None
    message: str = ""
    """Why a case is blank or failed, in one line."""
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each stage; reading and finishing overlap with the network of other cases."""
    millilitres: dict[str, float] = field(default_factory=dict)
    """Volume of each label."""


@dataclass(frozen=True)
class _Ready:
    """A case on its way to the device, or what already became of it."""

    case: Case
    cropped: Cropped | None = None
    result: CaseResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def segment_folder(
    input_folder: Path,
    output_folder: Path,
    *,
    task: str = "auto",
    weights: Path = SHIPPED_WEIGHTS,
    device: str = "auto",
    settings: Settings | None = None,
    shard: tuple[int, int] = (1, 1),
    watcher: Watcher | None = None,
) -> list[CaseResult]:
    """Segments every case of a folder; writes `{ID}.nii.gz` for each.

    `shard` (k, n) takes the k-th of n equal parts. `watcher` is told what happens.
    Raises UsageError, NoCasesError, WeightsError or OutputError before any case is read; later only OutputError.
    """
    settings, watcher = settings or Settings(), watcher or Watcher()
    cases = find_cases(input_folder, task)[shard[0] - 1 :: shard[1]]
    taken = {"the input folder": input_folder}
    prepare_folder(output_folder, "--output", taken)
    if settings.probabilities:
        prepare_folder(settings.probabilities, "--probabilities", {**taken, "the output folder": output_folder})
    chosen = pick_device(device)
    tasks = {case.task.name: case.task for case in cases if case.task and not case.problem}
    ensembles = {name: load_ensemble(weights, found, chosen) for name, found in tasks.items()}
    members = tuple(member for ensemble in ensembles.values() for member, _ in ensemble.members)
    watcher.start(Start(len(cases), str(chosen), members))
    results = []
    for result in _run(cases, ensembles, output_folder, settings, watcher):
        results.append(result)
        watcher.result(result)
    return results


def _run(
    cases: Sequence[Case], ensembles: dict[str, Ensemble], output: Path, settings: Settings, watcher: Watcher
) -> Iterator[CaseResult]:
    """Yields the ending of each case, in order."""
    waiting = deque(cases)
    writing: deque[Future[CaseResult]] = deque()
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:

        def read_next() -> Future[_Ready] | None:
            return reader.submit(_read, waiting.popleft(), output, settings, watcher) if waiting else None

        try:
            ahead = read_next()
            while ahead:
                ready = ahead.result()
                ahead = read_next()
                if writing:  # at most one finished case waits for the disk
                    yield writing.popleft().result()
                writing.append(_predict(ready, ensembles, writer, output, settings, watcher))
            while writing:
                yield writing.popleft().result()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _read(case: Case, output: Path, settings: Settings, watcher: Watcher) -> _Ready:
    """In the reader thread: everything up to the network's input."""
    began = time.perf_counter()
    try:
        if case.problem:
            raise CaseError(case.problem)
        if settings.resume and is_whole(output / case.output_name, case):
            return _Ready(case, result=CaseResult(case.id, Status.SKIPPED, case.task.name if case.task else None))
        watcher.stage(case.id, "read")
        cropped = crop_to_brain(read_images(case.paths.values()))
        return _Ready(case, cropped, seconds={"read": time.perf_counter() - began})
    except Exception as error:
        return _Ready(case, result=_failed(case, error, output, settings))


def _predict(
    ready: _Ready,
    ensembles: dict[str, Ensemble],
    writer: ThreadPoolExecutor,
    output: Path,
    settings: Settings,
    watcher: Watcher,
) -> Future[CaseResult]:
    """In the main thread: the network; then hands over to the writer."""
    if ready.result:
        return writer.submit(lambda result: result, ready.result)
    assert ready.cropped
    assert ready.case.task
    watcher.stage(ready.case.id, "network")
    began = time.perf_counter()
    warnings = list(ready.cropped.warnings)
    try:
        probabilities = ensembles[ready.case.task.name].predict(
            ready.cropped, settings.mode, settings.flips, lambda text: warnings.append(f"{ready.case.id}: {text}")
        )
    except Exception as error:
        return writer.submit(_failed, ready.case, error, output, settings)
    seconds = {**ready.seconds, "network": time.perf_counter() - began}
    cropped = replace(ready.cropped, warnings=tuple(warnings))
    return writer.submit(_finish, ready.case, cropped, probabilities, seconds, output, settings, watcher)


def _finish(
    case: Case,
    cropped: Cropped,
    probabilities: NDArray[np.float32],
    seconds: dict[str, float],
    output: Path,
    settings: Settings,
    watcher: Watcher,
) -> CaseResult:
    """In the writer thread: everything behind the network."""
    watcher.stage(case.id, "finish")
    began = time.perf_counter()
    assert case.task
    geometry = cropped.restore.geometry
    try:
        restored = restore_probabilities(probabilities, cropped.restore)
        labels = clean_some(
            labels_from_probabilities(restored, case.task),
            case.task,
            geometry.voxel_mm3,
            settings.dust_fill,
            settings.dust,
        )
        if settings.probabilities:
            write_probabilities(settings.probabilities / case.output_name, restored, geometry)
        write_labels(output / case.output_name, labels, geometry)
    except OutputError:
        raise
    except Exception as error:
        return _failed(case, error, output, settings)
    warnings = cropped.warnings
    if not labels.any():
        warnings = (*warnings, f"{case.id}: no tumor was found, the label map is empty: look at the images")
    seconds = {**seconds, "finish": time.perf_counter() - began}
    millilitres = label_volumes(labels, case.task, geometry.voxel_mm3)
    watcher.finished(Finished(case, cropped, probabilities, labels))
    return CaseResult(case.id, Status.WRITTEN, case.task.name, "", warnings, seconds, millilitres)


def _failed(case: Case, error: Exception, output: Path, settings: Settings) -> CaseResult:
    """Says why, and writes a blank map where that was asked for and a name and a grid can be had.

    Otherwise an older map of the case is removed: it would look like a result of this run.
    """
    log.debug("%s failed", case.id, exc_info=error)
    task = case.task.name if case.task else None
    message = _reason(case, error)
    if not is_safe_id(case.id):
        return CaseResult(case.id, Status.FAILED, task, message)
    if settings.on_error == OnError.FAIL:
        return _without_map(case, task, message, output)
    try:
        geometry = _any_geometry(case)
        write_labels(output / case.output_name, np.zeros(geometry.shape, np.uint8), geometry)
    except OutputError:
        raise
    except Exception as second:
        return _without_map(case, task, f"{message} (no blank map either: {_reason(case, second)})", output)
    return CaseResult(case.id, Status.BLANK, task, message)


def _without_map(case: Case, task: str | None, message: str, output: Path) -> CaseResult:
    if remove_older(output / case.output_name):
        message += " (its map of an earlier run was removed)"
    return CaseResult(case.id, Status.FAILED, task, message)


def _reason(case: Case, error: Exception) -> str:
    """What went wrong and what to do, in one line."""
    if isinstance(error, CaseError):
        return str(error)
    if is_out_of_memory(error):
        return f"{case.id}: does not fit into memory: give the run more, or crop the images"
    return printable(f"{case.id}: {type(error).__name__}: {error}: run it with --debug to see where")


def _any_geometry(case: Case) -> Geometry:
    """The grid of the first image whose header can be read, else the challenge's own."""
    for path in case.paths.values():
        try:
            return read_geometry(path)
        except CaseError:
            continue
    return Geometry.of_affine(GRID_SHAPE, np.array(GRID_AFFINE))
