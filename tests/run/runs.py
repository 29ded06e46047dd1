"""Runs with a small network of random weights."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_infer.cohort import segment_folder
from brats_infer.files.labels import read_labels
from brats_infer.labelling.confidence import UNSURE_MAP
from brats_infer.run.events import CaseResult
from brats_infer.settings import Settings
from brats_infer.tasks import TASKS

GLI = TASKS["gli"]
SHAPE = (30, 34, 26)


def run(cases: Path, output: Path, weights: Path, **changes: object) -> dict[str, CaseResult]:
    settings = Settings(**changes)  # type: ignore[arg-type]
    results = segment_folder(cases, output, task="gli", weights=weights, device="cpu", settings=settings)
    return {result.id: result for result in results}


def labels_in(folder: Path) -> dict[str, NDArray[np.uint8]]:
    return {path.name: read_labels(path)[0] for path in sorted(folder.iterdir())}


def told(result: CaseResult) -> list[str]:
    """The warnings but for the doubt, which is right of a network of random weights."""
    return [warning for warning in result.warnings if UNSURE_MAP not in warning]
