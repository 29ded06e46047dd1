"""Imported members as the start of a training."""

from pathlib import Path

import pytest
import torch

from brats_infer.network.devices import CPU
from brats_infer.tasks import TASKS
from brats_infer.train.choices import Targets
from brats_infer.train.data.dataset import Split
from brats_infer.train.loop import train
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.transfer import options_with, read_initial
from model.checkpoint import load_member
from model.unet import UNet
from tests.imported.fixtures import imported
from tests.train.test_transfer import SPLIT

STEPS = {"steps": 2, "validate_every": 2, "patch": 16, "batch": 1}


@torch.inference_mode()
@pytest.mark.parametrize(("name", "labels"), [("residual3-regions", False), ("flat4-labels", True)])
def test_training_starts_with_the_imported_network(name: str, labels: bool, tmp_path: Path) -> None:
    (member,) = imported(name, tmp_path)
    initial = read_initial(tmp_path)
    options = options_with(initial, {}, {})
    assert options.targets == (Targets.LABELS if labels else Targets.REGIONS)
    assert options.normalisation == member.normalisation
    config = TrainConfig(options, initial.sha256, initial.architecture).network
    assert (config.strides, config.residual, config.logits) == (member.config.strides, member.config.residual, False)
    network = UNet(config).eval()
    initial.put_into(network)
    x = torch.randn((1, 4, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    before = load_member(tmp_path, member)(x)
    expected = before[:, 1:] - before[:, :1] if labels else before
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["residual3-regions", "flat4-labels", "residual6-labels"])
def test_an_imported_network_trains(name: str, tmp_path: Path) -> None:
    imported(name, tmp_path / "weights")
    initial = read_initial(tmp_path / "weights")
    given = {**STEPS, "patch": 32} if "6" in name else STEPS
    config = TrainConfig(options_with(initial, {}, given), initial.sha256, initial.architecture)
    split: Split = SPLIT
    best = train(config, split, TASKS["gli"], tmp_path / "run", CPU, initial)
    assert best["step"] == 2
    again = read_initial(tmp_path / "run")
    assert again.architecture == config.network
    changed = [name for name, tensor in again.state.items() if not torch.equal(tensor, initial.state[name])]
    assert changed
