"""How a case can end, and what becomes of one that cannot be segmented."""

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from brats_infer.errors import CaseError, OutputError, printable
from brats_infer.files.cases import Case, is_safe_id
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import read_geometry, write_labels
from brats_infer.files.resume import remove_older
from brats_infer.network.devices import is_out_of_memory
from brats_infer.settings import OnError, Settings
from brats_infer.tasks import GRID_AFFINE, GRID_SHAPE

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
    """Time of each stage; those of several cases overlap, and beside a GPU the network's is mostly waiting."""
    millilitres: dict[str, float] = field(default_factory=dict)
    """Volume of each label."""


def fail_case(case: Case, error: Exception, output: Path, settings: Settings) -> CaseResult:
    """Says why, and writes a blank map where that was asked for and a name and a grid can be had.

    Otherwise an older map of the case is removed, and older probabilities always: they would look like a result of this
    run.
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
