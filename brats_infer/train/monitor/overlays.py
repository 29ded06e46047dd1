"""Pictures of what a trained network finds on a held-out case, beside what the expert found."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load

from brats_infer.labelling.label_map import labels_from_probabilities
from brats_infer.report.picture import draw_picture, grey
from brats_infer.tasks import LABEL_NAMES, Task
from brats_infer.train.checkpoint import read_best
from brats_infer.train.config import TrainConfig
from brats_infer.train.data.dataset import TrainingCase
from brats_infer.train.monitor.validation import ensemble_in_training, predicted_labels
from model.unet import UNet


def draw_overlays(run: Path, config: TrainConfig, case: TrainingCase, task: Task, device: torch.device) -> None:
    """Writes `{ID}.png`, what a run's best checkpoint finds, and `{ID}-expert.png` into the run's folder.

    Both through the middle of what the picture's own labels show. Raises what `read_best` does.
    """
    greys = [grey(image) for image in case.image[:4].float().numpy()]
    network = UNet(config.network)
    network.load_state_dict({name: tensor.float() for name, tensor in load(read_best(run)).items()})
    found = predicted_labels(ensemble_in_training(network, task, device), case)
    expert = labels_from_probabilities(case.regions.float(), task).numpy()
    for name, labels in ((case.id, found), (f"{case.id}-expert", expert)):
        volumes = {LABEL_NAMES[n]: float(np.count_nonzero(labels == n)) / 1000 for n in task.labels}
        draw_picture(greys, labels, name, volumes, run / f"{name}.png")
