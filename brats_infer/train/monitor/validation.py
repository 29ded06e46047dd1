"""Validation on whole brains: Dice and HD95 of each region, and the one number that checkpoints are ranked by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.evaluate.surface import hd95
from brats_infer.labelling.postprocess import keep_brain
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.labelling.thresholds import labels_from_probabilities
from brats_infer.network.engines import Engine, exact, torch_engine
from brats_infer.network.windows import predict_member
from brats_infer.tasks import Task
from brats_infer.train.choices import Selection
from brats_infer.train.data.dataset import TrainingCase
from brats_infer.train.distributed import Workers
from model.unet import UNet

ALONE = Workers()


def validate(
    network: UNet,
    cases: Sequence[TrainingCase],
    task: Task,
    device: torch.device,
    select: Selection,
    workers: Workers = ALONE,
) -> dict[str, Any]:
    """Scores whole brains in one pass, thresholded as in the container, without post-processing.

    Returns {"score": by which checkpoints are ranked, "dice": mean, "hd95": mean in mm, "cases": {ID: {region:
    {"dice", "hd95"}}}}. A region absent from both counts as Dice 1 and HD95 0; absent from one only, as Dice 0 and the
    task's penalty, which no HD95 exceeds. Without cases everything is 0.
    """
    engine = torch_engine(network.eval(), device)
    mine = {cases[i].id: _score(engine, cases[i], task, device) for i in workers.share(len(cases))}
    found = workers.gather(mine)
    scores = {case.id: found[case.id] for case in cases}
    values = [value for regions in scores.values() for value in regions.values()]
    dice = float(np.mean([value["dice"] for value in values])) if values else 0.0
    distance = float(np.mean([value["hd95"] for value in values])) if values else 0.0
    both = (dice + 1 - distance / task.metrics.penalty_mm) / 2
    score = both if select == Selection.DICE_HD95 else dice
    return {
        "score": round(score, 4) if values else 0.0,
        "dice": round(dice, 4),
        "hd95": round(distance, 2),
        "cases": scores,
    }


def _score(engine: Engine, case: TrainingCase, task: Task, device: torch.device) -> dict[str, dict[str, float]]:
    """{region: {"dice", "hd95"}} of one case."""
    found = regions_from_labels(predicted_labels(engine, case, task, device), task)
    return {
        region.name: {
            "dice": round(_dice(predicted, true), 4),
            "hd95": round(min(hd95(predicted, true), task.metrics.penalty_mm), 2),
        }
        for region, predicted, true in zip(task.regions, found, case.regions.numpy(), strict=True)
    }


def predicted_labels(engine: Engine, case: TrainingCase, task: Task, device: torch.device) -> NDArray[np.uint8]:
    """The label map (X, Y, Z) that a network finds on a case's own grid."""
    image = case.image.float()
    brain = image[4].numpy() > 0
    x = (image if engine.config.foreground else image[:4]).to(device)
    with torch.inference_mode():
        probabilities = predict_member(engine, x, None, flips=False)
        if bool(probabilities.sum().isnan()):  # too large for fp16
            probabilities = predict_member(exact(engine), x, None, flips=False)
        labels = labels_from_probabilities(probabilities, task).cpu().numpy()
    return np.asarray(keep_brain(labels, brain))


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    size = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / size if size else 1.0
