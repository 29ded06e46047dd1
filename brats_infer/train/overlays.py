"""Pictures of what a trained network finds on a held-out case, beside what the expert found."""

from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file

from brats_infer.labels import labels_from_probabilities
from brats_infer.tasks import Task
from brats_infer.train.config import TrainConfig
from brats_infer.train.data import TrainingCase
from brats_infer.train.loop import BEST
from brats_infer.train.validation import predicted_labels
from model.unet import UNet


def draw_overlays(run: Path, config: TrainConfig, case: TrainingCase, task: Task, device: torch.device) -> None:
    """Writes `{ID}.png`, what a run's best checkpoint finds, and `{ID}-expert.png` into the run's folder.

    Nothing where matplotlib is not installed (extra `report`), or where a contrast of the case is empty.
    """
    images = list(case.image[:4].float().numpy()[:, ::-1, ::-1])  # from canonical LPS to RAS axes
    if not find_spec("matplotlib") or not all(image.any() for image in images):
        return
    from brats_infer.report import draw

    network = UNet(config.network)
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(run / BEST).items()})
    found = predicted_labels(network.to(device).eval(), case, task, device, window=None)
    expert = labels_from_probabilities(case.regions.float(), task).numpy()
    for name, labels in ((case.id, found), (f"{case.id}-expert", expert)):
        draw(images, labels[::-1, ::-1], name, 1.0, run / f"{name}.png")
