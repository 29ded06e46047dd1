"""One case of a run: the line of `brats_infer.pipeline` with timing, files, events and failures."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from brats_infer.errors import CaseError, OutputError, is_out_of_memory, printable
from brats_infer.files.cases import Case, is_safe_id
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import Volume, read_case, read_geometry, write_labels, write_probabilities
from brats_infer.image.contrasts import is_enough, read_present
from brats_infer.image.crop import Cropped
from brats_infer.network.ensemble import Ensemble
from brats_infer.pipeline import Labelled, Predicted, Read, label, predict, prepare
from brats_infer.run.events import CaseResult, Events, Finished, Status
from brats_infer.settings import Missing, OnError, Settings
from brats_infer.tasks import GRID_AFFINE, GRID_SHAPE, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """The data that all cases of a run share."""

    output: Path
    settings: Settings
    ensembles: Mapping[str, Ensemble]  # by the name of the task
    is_done: Callable[[Case], bool]
    """Whether an earlier run has written the case, which is then skipped."""
    events: Events
    judge: Callable[[Labelled, Task], tuple[dict[str, float | None], tuple[str, ...]]]
    """Gives the expected Dice of each region, and remarks on the map."""
    look: Callable[[Cropped], list[str]]
    """Gives remarks on the images."""


class CaseRun:
    """Takes one case through the line. Each step may run in another thread, and passes on a case that has ended."""

    def __init__(self, case: Case, shared: Shared) -> None:
        self.case = case
        self.shared = shared
        self.seconds: dict[str, float] = {}
        self.to_show: Cropped | None = None
        """The images for the event `finished`."""

    def read(self) -> Read | CaseResult:
        """Reads the case and prepares the networks' inputs."""
        self.shared.events.stage(self.case.id, "read")
        try:
            if self.shared.is_done(self.case):
                return CaseResult(self.case.id, Status.SKIPPED, self.case.task.name if self.case.task else None)
            ensemble = self._ensemble()
            try:
                read = self._prepared(read_case, ensemble)
            except CaseError:
                if self.shared.settings.missing is Missing.FAIL:
                    raise
                read = self._prepared(read_present, ensemble)
        except Exception as error:
            return self._failed(error)
        if self.shared.events.finished:
            self.to_show = read.cropped
        return read

    def _prepared(self, images: Callable[[Case], dict[Path, Volume]], ensemble: Ensemble) -> Read:
        with self._timed("read"):
            volumes = images(self.case)
        with self._timed("preprocess"):
            read = prepare(volumes, ensemble)
            remarks = (f"{self.case.id}: {remark}" for remark in self.shared.look(read.cropped))
            return replace(read, warnings=(*read.warnings, *remarks))

    def predict(self, read: Read | CaseResult) -> Predicted | CaseResult:
        """Runs the networks and applies the thresholds."""
        if isinstance(read, CaseResult):
            return read
        self.shared.events.stage(self.case.id, "network")
        try:
            with self._timed("network"):
                return predict(read, self._ensemble(), self.shared.settings)
        except Exception as error:
            return self._failed(error)

    def finish(self, predicted: Predicted | CaseResult) -> CaseResult:
        """Post-processes and writes. Raises OutputError."""
        if isinstance(predicted, CaseResult):
            return predicted
        self.shared.events.stage(self.case.id, "finish")
        try:
            return self._written(predicted, self._ensemble().task)
        except OutputError:
            raise
        except Exception as error:
            return self._failed(error)

    def _written(self, predicted: Predicted, task: Task) -> CaseResult:
        settings, events, name = self.shared.settings, self.shared.events, self.case.output_name
        with self._timed("clean"):
            labelled = label(predicted, task, settings, settings.probabilities is not None)
            expected_dice, doubts = self.shared.judge(labelled, task)
        with self._timed("write"):
            geometry = labelled.restore.geometry
            if settings.probabilities:
                write_probabilities(settings.probabilities / name, labelled.probability_maps(), geometry)
            write_labels(self.shared.output / name, labelled.labels, geometry)
        if events.finished and self.to_show:
            events.finished(Finished(self.case, self.to_show, labelled))
        warnings = (*labelled.warnings, *(f"{self.case.id}: {note}" for note in (*labelled.notes, *doubts)))
        found = (self.seconds, labelled.millilitres, expected_dice)
        return CaseResult(self.case.id, Status.WRITTEN, task.name, "", warnings, *found)

    def _ensemble(self) -> Ensemble:
        """The ensemble of the case's task. Raises CaseError for a case that cannot be segmented."""
        case = self.case
        if case.problem and not (case.lacks and self.shared.settings.missing is Missing.USE):
            mendable = case.lacks and is_enough(case.paths, case.task)
            raise CaseError(case.problem + ("; or give --missing use" if mendable else ""))
        if case.task is None:
            raise CaseError(f"{case.id}: has no task: give --task")
        return self.shared.ensembles[case.task.name]

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - began

    def _failed(self, error: Exception) -> CaseResult:
        return fail_case(self.case, error, self.shared.output, self.shared.settings)


def fail_case(case: Case, error: Exception, output: Path, settings: Settings) -> CaseResult:
    """The result of a failed case. Writes a blank map if the settings ask for it and the case's ID is safe.

    Removes older probabilities, and an older map if it writes no blank map: they would look like results of this run.
    """
    log.debug("%s failed", case.id, exc_info=error)
    task = case.task.name if case.task else None
    message = _reason(case, error)
    if not is_safe_id(case.id):
        return CaseResult(case.id, Status.FAILED, task, message)
    if settings.probabilities:
        remove_older(settings.probabilities / case.output_name)
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
    """The cause and the remedy, in one line."""
    if isinstance(error, CaseError):
        return str(error)
    if is_out_of_memory(error):
        return f"{case.id}: does not fit into memory: give the run more, or crop the images"
    return printable(f"{case.id}: {type(error).__name__}: {error}: run it with --debug to see where")


def _any_geometry(case: Case) -> Geometry:
    """The grid of the first image whose header can be read, else the challenge's own."""
    for path in case.paths.values():
        try:
            return read_geometry(path, len(case.channels) or 1)
        except CaseError:
            continue
    return Geometry.of_affine(GRID_SHAPE, np.array(GRID_AFFINE))


def remove_older(path: Path) -> bool:
    """Removes an older output of a failed case; returns whether there was one. Raises OutputError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(
            f"{path}: is of an earlier run and cannot be removed ({error.strerror}): choose another --output"
        ) from error
    return True
