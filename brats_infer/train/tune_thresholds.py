"""`brats-opt tune thresholds`: thresholds and dust sizes from stored probabilities (paper 2.5, 2.6)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.boxes import bounding_box
from brats_infer.errors import CaseError
from brats_infer.evaluate.cohort import SPACING_DIGITS
from brats_infer.evaluate.lesionwise import lesionwise_scores
from brats_infer.evaluate.pairs import find_pairs, read_reference
from brats_infer.labels import labels_from_probabilities
from brats_infer.postprocess import clean
from brats_infer.tasks import Task
from brats_infer.train.study import search
from brats_infer.volume import read_probabilities

if TYPE_CHECKING:
    import optuna

THRESHOLD, DUST = "threshold", "dust_voxels"
THRESHOLDS = (0.05, 0.95)
DUST_VOXELS = (0, 500)
DUST_STEP = 10


@dataclass(frozen=True)
class Stored:
    """One case's probabilities and labels, cropped to where any threshold could find tumor."""

    id: str
    probabilities: NDArray[np.float32]
    """(R, X, Y, Z)"""
    reference: NDArray[np.uint8]
    """(X, Y, Z)"""
    spacing: tuple[float, float, float]
    """mm"""


def tune_thresholds(
    task: Task, probabilities: Path, references: Path, out: Path, trials: int, seed: int
) -> dict[str, Any]:
    """Searches each region's threshold and dust size for the best mean lesion-wise Dice; the study is kept in `out`.

    The values of `tasks.py` are tried first. Returns {"dice", "present dice", "trials", "regions": {name: {"threshold",
    "dust_voxels"}}}. Raises as `find_pairs` and `search` do, CaseError for files that cannot be used.
    """
    pairs = find_pairs(probabilities, references)
    cases = [read_stored(pair.id, pair.prediction, pair.reference, task) for pair in pairs if pair.prediction]
    cases = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]  # the first ones decide on pruning

    def objective(trial: "optuna.Trial") -> float:
        """The mean lesion-wise Dice over the cases."""
        import optuna

        chosen = suggested(trial, task)
        scores: list[float] = []
        for case in cases:
            scores.append(lesionwise_dice(case, chosen))
            trial.report(float(np.mean(scores)), len(scores))
            if trial.number and len(scores) < len(cases) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(scores))

    first: dict[str, float] = {}
    for region in task.regions:
        first |= {f"{region.name} {THRESHOLD}": region.threshold, f"{region.name} {DUST}": region.dust_voxels}
    identity = {"search": "thresholds", "task": task.name, "cases": sorted(case.id for case in cases)}
    study = search(objective, out, identity, trials, seed, first)
    best = study.best_params
    present = [trial.value for trial in study.trials if trial.params == first and trial.value is not None]
    return {
        "dice": study.best_value,
        "present dice": present[0] if present else None,
        "trials": len(study.trials),
        "regions": {r.name: {what: best[f"{r.name} {what}"] for what in (THRESHOLD, DUST)} for r in task.regions},
    }


def read_stored(case_id: str, probabilities: Path, reference: Path, task: Task) -> Stored:
    """Reads a case. Raises CaseError for files that cannot be read or do not fit each other."""
    found, geometry = read_probabilities(probabilities)
    labels, _ = read_reference(reference, task)
    if labels.shape != geometry.shape or len(found) != len(task.regions):
        raise CaseError(f"{probabilities}: its shape does not fit {reference.name} and {task.name}: check both folders")
    margin = task.metrics.dilation_iterations + 1
    box = bounding_box((found[0] >= THRESHOLDS[0]) | (labels > 0), margin)
    x, y, z = (round(edge, SPACING_DIGITS) for edge in geometry.spacing)
    return Stored(case_id, np.ascontiguousarray(found[:, *box]), labels[box], (x, y, z))


def suggested(trial: "optuna.Trial", task: Task) -> Task:
    """The task with a trial's thresholds and dust sizes."""
    regions = [
        replace(
            region,
            threshold=trial.suggest_float(f"{region.name} {THRESHOLD}", *THRESHOLDS),
            dust_voxels=trial.suggest_int(f"{region.name} {DUST}", *DUST_VOXELS, step=DUST_STEP),
        )
        for region in task.regions
    ]
    return replace(task, regions=tuple(regions))


def lesionwise_dice(case: Stored, task: Task) -> float:
    """The mean over the regions, after thresholds and post-processing."""
    labels = labels_from_probabilities(torch.from_numpy(case.probabilities), task).numpy()
    cleaned = clean(labels, task, float(np.prod(case.spacing)))
    scores = lesionwise_scores(cleaned, case.reference, task, case.spacing)
    return float(np.mean([region.lesionwise_dice for region in scores.values()]))
