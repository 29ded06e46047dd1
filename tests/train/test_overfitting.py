"""A small network learns one synthetic case by heart: patches, loss, steps and validation fit together."""

from pathlib import Path

import numpy as np
import torch

from brats_infer.tasks import TASKS
from brats_infer.train.checkpoint import BEST
from brats_infer.train.choices import Selection, TrainOptions
from brats_infer.train.data.dataset import Split
from brats_infer.train.loop import train
from brats_infer.train.monitor.validation import validate
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.transfer import read_initial
from model.unet import UNet
from tests.small_networks import training_case

CPU = torch.device("cpu")


def test_one_case_is_learned_by_heart_in_150_steps(tmp_path: Path) -> None:
    case = training_case("BraTS-GLI-00000-000", np.random.default_rng(0), (24, 24, 24))
    options = TrainOptions(
        channels=(6, 12, 16), patch=24, steps=150, learning_rate=0.03, warm_up=10, ema=0.9, validate_every=150
    )
    config = TrainConfig(options)
    train(config, Split((case,), ()), TASKS["gli"], tmp_path, CPU)
    learned = UNet(config.network)
    read_initial(tmp_path / BEST).put_into(learned)
    scores = validate(learned, (case,), TASKS["gli"], CPU, Selection.DICE)["cases"][case.id]
    assert all(value["dice"] > 0.9 for value in scores.values()), scores
