"""The straight line of one case: read -> preprocess -> predict -> restore -> label -> clean -> write.

Each stage says in which thread `brats_infer.run.folder` runs it. What goes wrong becomes the case's ending.
"""

import logging
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from brats_infer.errors import CaseError, OutputError
from brats_infer.files.cases import Case
from brats_infer.files.nifti import read_images, write_labels, write_probabilities
from brats_infer.files.resume import is_whole, probabilities_are_whole
from brats_infer.image.crop import Cropped, crop_to_brain
from brats_infer.labelling.label_map import NO_TUMOR, Outcome, inside_brain, label_map, outcome_of, probability_maps
from brats_infer.labelling.postprocess import tidy
from brats_infer.labelling.volumetry import label_volumes
from brats_infer.network.devices import despite_the_gpu
from brats_infer.network.ensemble import Check, Ensemble
from brats_infer.network.inputs import Prepared
from brats_infer.run.events import Finished, Watcher
from brats_infer.run.results import CaseResult, Status, fail_case
from brats_infer.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Underway:
    """A case on its way from one stage to the next, or what already became of it."""

    case: Case
    result: CaseResult | None = None
    cropped: Cropped | None = None
    """Without its images, unless somebody wants to be told of them."""
    prepared: Prepared | None = None
    outcome: Outcome | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def read_case(
    case: Case, ensembles: dict[str, Ensemble], output: Path, settings: Settings, watcher: Watcher
) -> Underway:
    """In the reader thread: everything up to the network's input."""
    began = time.perf_counter()
    watcher.stage(case.id, "read")
    try:
        if settings.resume and _is_there(case, output, settings):
            return Underway(case, result=CaseResult(case.id, Status.SKIPPED, case.task.name if case.task else None))
        if case.problem:
            raise CaseError(case.problem)
        images = read_images(case.paths.values())
        read = time.perf_counter()
        assert case.task
        cropped = crop_to_brain(images)
        prepared = ensembles[case.task.name].prepare(cropped)
        # without what was read, whose memory the next case can have
        cropped = replace(cropped, views=tuple(cropped.images) if watcher.finished else ())
        seconds = {"read": read - began, "preprocess": time.perf_counter() - read}
        return Underway(case, None, cropped, prepared, None, seconds)
    except Exception as error:
        return Underway(case, result=fail_case(case, error, output, settings))


def _is_there(case: Case, output: Path, settings: Settings) -> bool:
    """Whether an earlier run has written all that this one would, whatever has become of the images since."""
    labels, others = output / case.output_name, settings.probabilities
    return is_whole(labels, case) and (
        others is None or probabilities_are_whole(others / case.output_name, labels, case)
    )


def predict_case(
    underway: Underway,
    ensembles: dict[str, Ensemble],
    output: Path,
    settings: Settings,
    watcher: Watcher,
    check: Check = lambda: None,
) -> Underway:
    """In a thread of the device: the network and its thresholds. `check` is called before each pass, and may raise."""
    case, cropped, prepared = underway.case, underway.cropped, underway.prepared
    if underway.result:
        return underway
    assert cropped
    assert prepared
    assert case.task
    watcher.stage(case.id, "network")
    began = time.perf_counter()
    task, restore, told = case.task, cropped.restore, list[str]()
    whole = settings.probabilities is not None or watcher.finished is not None

    def compute() -> Outcome:
        return outcome_of(ensembles[task.name].predict(prepared, settings, told.append, check), restore, task, whole)

    try:
        outcome = despite_the_gpu(compute, compute)
    except Exception as error:
        return Underway(case, result=fail_case(case, error, output, settings))
    seconds = {**underway.seconds, "network": time.perf_counter() - began}
    cropped = replace(cropped, warnings=(*cropped.warnings, *(f"{case.id}: {text}" for text in told)))
    # without inputs, whose memory the next case can have
    return Underway(case, None, cropped, replace(prepared, inputs={}, raw=None), outcome, seconds)


def finish_case(underway: Underway, output: Path, settings: Settings, watcher: Watcher) -> CaseResult:
    """In a writer thread: everything behind the network. Raises OutputError."""
    began = time.perf_counter()
    case, cropped, prepared, outcome = underway.case, underway.cropped, underway.prepared, underway.outcome
    if underway.result:
        return underway.result
    assert cropped
    assert prepared
    assert outcome
    assert case.task
    task, geometry = case.task, cropped.restore.geometry
    watcher.stage(case.id, "finish")
    clean = partial(tidy, task=task, voxel_mm3=geometry.voxel_mm3, settings=settings)
    try:
        found = inside_brain(outcome, prepared.brain)
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
    seconds = {**underway.seconds, "clean": cleaned - began, "write": time.perf_counter() - cleaned}
    if watcher.finished:
        watcher.finished(Finished(case, cropped, found.probabilities, labels))
    return CaseResult(case.id, Status.WRITTEN, task.name, "", warnings, seconds, millilitres)
