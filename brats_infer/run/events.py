"""Who is told what while a run works: a progress bar, a report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brats_infer.files.cases import Case
from brats_infer.image.crop import Cropped
from model.checkpoint import Member

if TYPE_CHECKING:
    from brats_infer.run.results import CaseResult


@dataclass(frozen=True)
class Start:
    """What a run knows before its first case."""

    cases: int
    device: str
    members: tuple[Member, ...]
    """Of every task among the cases."""


@dataclass(frozen=True)
class Finished:
    """A case behind its last step, for whoever wants more than its label map."""

    case: Case
    cropped: Cropped
    probabilities: NDArray[np.float32]
    """(R, X, Y, Z) of the regions, on the crop, before thresholds."""
    labels: NDArray[np.uint8]
    """(X, Y, Z) on the input's own grid, as written."""


def _nobody(*_: Any) -> None:
    """What is called where nobody wants to be told."""


@dataclass(frozen=True)
class Watcher:
    """Functions to be called; one that raises ends the run, behind the case that the device is at."""

    start: Callable[[Start], None] = _nobody
    """The cases are known and the weights are loaded."""
    stage: Callable[[str, str], None] = _nobody
    """A case (its ID) enters a stage: read, network, finish. Called in the thread that works on it."""
    finished: Callable[[Finished], None] | None = None
    """A label map is written; called in the writer thread, so that the device goes on.

    None: nobody wants the probabilities, of which those outside the labels' box may then stay on the device."""
    result: Callable[["CaseResult"], None] = _nobody
    """A case has ended, well or not; called in a thread of its own, in their order, or where Ray's cases are given
    out."""
