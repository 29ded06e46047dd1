"""The events of a run: its start, each case's stages, each case's result."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from brats_infer.files.cases import Case
from brats_infer.image.crop import Cropped
from brats_infer.pipeline import Labelled
from model.config import Member


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
    """Time of each stage. Stages of several cases overlap; on a GPU the network's stage is mostly waiting."""
    millilitres: dict[str, float] = field(default_factory=dict)
    """Volume of each label."""
    expected_dice: dict[str, float | None] = field(default_factory=dict)
    """Of each region."""


@dataclass(frozen=True)
class Start:
    """The facts of a run before its first case."""

    cases: tuple[Case, ...]
    device: str
    members: tuple[Member, ...]
    """Of every task among the cases."""


@dataclass(frozen=True)
class Finished:
    """A case whose label map is written."""

    case: Case
    cropped: Cropped
    labelled: Labelled


def _nobody(*_: Any) -> None:
    """The default of an event: does nothing."""


@dataclass(frozen=True)
class Events:
    """Functions that a run calls. An exception in a function ends the run after the current case."""

    start: Callable[[Start], None] = _nobody
    """The cases are known and the weights are loaded."""
    stage: Callable[[str, str], None] = _nobody
    """A case (its ID) enters a stage: read, network, finish. Called in the thread that works on it."""
    finished: Callable[[Finished], None] | None = None
    """A label map is written. Called in the writer thread. None: nobody needs the images then."""
    result: Callable[[CaseResult], None] = _nobody
    """A case has ended, well or not. Called in a thread of its own, in the order of the cases."""
