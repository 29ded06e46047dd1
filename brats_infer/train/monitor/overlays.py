"""Pictures of what a trained network finds on a held-out case, beside what the expert found."""

from pathlib import Path

import numpy as np
import torch

from brats_infer.labelling.label_map import labels_from_probabilities
from brats_infer.report.picture import draw_picture, grey
from brats_infer.tasks import Task
from brats_infer.train.data.dataset import TrainingCase
from brats_infer.train.monitor.validation import ensemble_in_training, predicted_labels
from model.unet import UNet


def draw_overlays(run: Path, network: UNet, case: TrainingCase, task: Task, device: torch.device) -> None:
    """Writes `{ID}.png`, the network's labels, and `{ID}-expert.png` into a run's folder.

    Each shows the planes through the middle of its own labels.
    """
    greys = [grey(image) for image in case.image[:-1].float().numpy()]
    found = predicted_labels(ensemble_in_training(network, task, device), case)
    expert = labels_from_probabilities(case.regions.float(), task).numpy()
    for name, labels in ((case.id, found), (f"{case.id}-expert", expert)):
        volumes = {task.name_of(n): float(np.count_nonzero(labels == n)) / 1000 for n in task.labels}
        draw_picture(greys, labels, task, name, volumes, run / f"{name}.png")
