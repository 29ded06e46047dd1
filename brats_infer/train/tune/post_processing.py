"""`brats-opt tune thresholds`: searches thresholds and post-processing on stored probabilities (paper 2.5, 2.6)."""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.evaluate.label_maps import on_grid, read_reference, rounded_spacing
from brats_infer.evaluate.lesionwise import lesionwise_scores
from brats_infer.evaluate.pairs import find_pairs
from brats_infer.files.labels import read_probabilities
from brats_infer.image.voxels import bounding_box
from brats_infer.labelling.label_map import labels_from_probabilities
from brats_infer.labelling.postprocess import clean_up
from brats_infer.settings import Settings
from brats_infer.tasks import Region, Task, of_another_challenge
from brats_infer.train.tune.study import search

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

THRESHOLDS = (0.05, 0.95)
DUST, DUST_STEP = (0, 1000), 10  # mm3
COMPONENT_PROBABILITIES = (0.0, 0.95)


@dataclass(frozen=True)
class Stored:
    """The probabilities and labels of a case, cropped to the voxels that any threshold could call tumor."""

    id: str
    probabilities: NDArray[np.float32]
    """(R, X, Y, Z)"""
    reference: NDArray[np.uint8]
    """(X, Y, Z)"""
    spacing: tuple[float, float, float]
    """mm"""

    @property
    def sha256(self) -> str:
        """A hash of the arrays and the spacing."""
        digest = hashlib.sha256(repr((self.probabilities.shape, self.spacing)).encode())
        digest.update(self.probabilities.tobytes())
        digest.update(self.reference.tobytes())
        return digest.hexdigest()


def tune_thresholds(
    task: Task, probabilities: Path, references: Path, out: Path, trials: int, seed: int
) -> dict[str, Any]:
    """Searches for the best mean lesion-wise Dice of labels made from the probabilities; keeps the study in `out`.

    The search varies each region's threshold, `dust` and `component_probability`, and tries the present values first.
    Returns {"cases", "dice", "present dice", "trials", "thresholds": {region: threshold}, "dust": mm3,
    "component_probability"}. Raises CaseError for files that cannot be used, and the errors of `find_pairs` and
    `search`.
    """
    pairs = find_pairs(probabilities, references)
    if told := of_another_challenge([pair.id for pair in pairs], task.name):
        log.warning("warning: %s", told)
    cases = [read_stored(pair.id, pair.prediction, pair.reference, task) for pair in pairs if pair.prediction]
    cases = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]  # the first cases decide on pruning

    def objective(trial: "optuna.Trial") -> float:
        """The mean lesion-wise Dice over the cases."""
        import optuna

        chosen, settings = suggested(trial, task)
        scores: list[float] = []
        for case in cases:
            scores.append(lesionwise_dice(case, chosen, settings))
            trial.report(float(np.mean(scores)), len(scores))
            if trial.number and len(scores) < len(cases) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(scores))

    first: dict[str, float] = {threshold_of(region): region.threshold for region in task.regions}
    first |= {"dust": Settings.dust, "component_probability": Settings.component_probability}
    contents = {case.id: case.sha256 for case in sorted(cases, key=lambda case: case.id)}
    identity = {"search": sorted(first), "task": task.name, "cases": contents}
    study = search(objective, out, identity, trials, seed, first)
    best = study.best_params
    present = [trial.value for trial in study.trials if trial.params == first and trial.value is not None]
    return {
        "cases": len(cases),
        "dice": study.best_value,
        "present dice": present[0] if present else None,
        "trials": len(study.trials),
        "thresholds": {region.name: best[threshold_of(region)] for region in task.regions},
        "dust": best["dust"],
        "component_probability": best["component_probability"],
    }


def read_stored(case_id: str, probabilities: Path, reference: Path, task: Task) -> Stored:
    """Reads a case. Raises CaseError for files that cannot be read or have different grids."""
    found, geometry = read_probabilities(probabilities)
    given = read_reference(reference, task)
    if len(found) != len(task.regions):
        raise CaseError(f"{probabilities}: holds {len(found)} regions, not {len(task.regions)}: check --task")
    placed = on_grid(given, reference, geometry, probabilities.name, "check both folders")
    for warning in placed.warnings:
        log.warning("warning: %s", warning)
    labels = placed.data
    margin = task.metrics.dilation_iterations + 1
    box = bounding_box((found >= THRESHOLDS[0]).any(axis=0) | (labels > 0), margin)
    return Stored(case_id, np.ascontiguousarray(found[:, *box]), labels[box], rounded_spacing(geometry))


def threshold_of(region: Region) -> str:
    """The name of a region's threshold in the study."""
    return f"{region.name} threshold"


def suggested(trial: "optuna.Trial", task: Task) -> tuple[Task, Settings]:
    """The task with a trial's thresholds, and its post-processing."""
    regions = [
        replace(region, threshold=trial.suggest_float(threshold_of(region), *THRESHOLDS)) for region in task.regions
    ]
    settings = Settings(
        dust=trial.suggest_int("dust", *DUST, step=DUST_STEP),
        component_probability=trial.suggest_float("component_probability", *COMPONENT_PROBABILITIES),
    )
    return replace(task, regions=tuple(regions)), settings


def lesionwise_dice(case: Stored, task: Task, settings: Settings) -> float:
    """The mean over the regions, after the thresholds and post-processing of a run."""
    labels = labels_from_probabilities(torch.from_numpy(case.probabilities), task).numpy()
    cleaned = clean_up(labels, case.probabilities, task, float(np.prod(case.spacing)), settings)
    scores = lesionwise_scores(cleaned, case.reference, task, case.spacing)
    return float(np.mean([region.lesionwise_dice for region in scores.values()]))
