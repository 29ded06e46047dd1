"""Validation on whole brains: Dice and HD95 of each region, and the one number that checkpoints are ranked by."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.evaluate.surface import hd95
from brats_infer.image.crop import Cropped, Restore
from brats_infer.image.normalise import Normalisation
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.network.ensemble import Ensemble, input_kind
from brats_infer.network.loading import ensemble_of, torch_engine
from brats_infer.pipeline import Read, label, predict
from brats_infer.settings import Settings
from brats_infer.tasks import Task
from brats_infer.train.choices import Selection
from brats_infer.train.data.dataset import TrainingCase
from brats_infer.train.distributed import Workers
from model.config import Member
from model.unet import UNet

AS_PREDICTED = Settings(dust=0, component_probability=0)
"""Without post-processing."""
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
    ensemble = ensemble_in_training(network, task, device)
    mine = {cases[i].id: _score(ensemble, cases[i], task) for i in workers.share(len(cases))}
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


def _score(ensemble: Ensemble, case: TrainingCase, task: Task) -> dict[str, dict[str, float]]:
    """{region: {"dice", "hd95"}} of one case."""
    found = regions_from_labels(predicted_labels(ensemble, case), task)
    return {
        region.name: {
            "dice": round(_dice(predicted, true), 4),
            "hd95": round(min(hd95(predicted, true), task.metrics.penalty_mm), 2),
        }
        for region, predicted, true in zip(task.regions, found, case.regions.numpy(), strict=True)
    }


def ensemble_in_training(network: UNet, task: Task, device: torch.device) -> Ensemble:
    """A network as it is now, as the only member; it computes in torch, as it changes before the next time."""
    member = Member("", "", task.name, 0, network.config, Normalisation.NONE, (0, 0, 0), "", "")
    return ensemble_of(task, [(member, network.eval())], device, make_engine=torch_engine)


def predicted_labels(ensemble: Ensemble, case: TrainingCase) -> NDArray[np.uint8]:
    """The label map (X, Y, Z) that a network finds on a case's own grid, without post-processing."""
    image = case.image.float()  # (C + 1, X, Y, Z)
    brain = image[-1].numpy() > 0
    (member,) = ensemble.members
    x = image if member.config.foreground else image[:-1]
    counts = (int(brain.sum()),) * (len(image) - 1)
    cropped = Cropped(tuple(image[:-1].numpy()), brain, Restore.of_crop(brain.shape), counts)
    read = Read(cropped, {input_kind(member): x}, ())
    return label(predict(read, ensemble, AS_PREDICTED), ensemble.task, AS_PREDICTED).labels


def _dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    size = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / size if size else 1.0
