"""Transfer learning: what training starts with, and what it leaves alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from brats_infer.errors import UsageError, WeightsError
from brats_infer.tasks import TASKS
from brats_infer.train.checkpoint import BEST, LAST
from brats_infer.train.choices import Freeze
from brats_infer.train.config import TrainConfig
from brats_infer.train.loop import train
from brats_infer.train.transfer import freeze, read_initial
from model.checkpoint import MANIFEST, save_weights
from model.config import UNetConfig
from model.unet import UNet, group_prefixes
from tests.small_networks import random_network, write_weights
from tests.train.small_runs import split_of

CPU = torch.device("cpu")
DEEP = UNetConfig(channels=(2, 3, 4, 5, 6, 7, 8))
SHALLOW = UNetConfig(channels=(3, 5))
SPLIT = split_of(shape=(10, 9, 8))


@pytest.mark.parametrize("group", Freeze)
def test_frozen_parameters_keep_every_bit_and_the_others_do_not(tmp_path: Path, group: Freeze) -> None:
    file = tmp_path / "initial.safetensors"
    save_weights(file, random_network(DEEP))
    initial = read_initial(file)
    config = TrainConfig(
        DEEP, "none", (128, 64, 64), steps=2, learning_rate=0.05, warm_up=0, weight_decay=0.1, freeze=group
    )
    train(config, replace(SPLIT, validation=()), TASKS["gli"], tmp_path / "run", CPU, initial)
    before, after = load_file(file), load_file(tmp_path / "run" / BEST)
    last = torch.load(tmp_path / "run" / LAST, weights_only=True)
    prefixes = group_prefixes(DEEP, group.value)
    for name, tensor in before.items():
        frozen = name.startswith(prefixes)
        assert torch.equal(after[name], tensor) == frozen, name
        assert torch.equal(last["network"][name], tensor.float()) == frozen, name
        assert torch.equal(last["mean"][name], tensor.float()) == frozen, name


@pytest.mark.parametrize("group", Freeze)
def test_frozen_parameters_get_no_gradient(group: Freeze) -> None:
    network = UNet(DEEP)
    freeze(network, group)
    sum(head.square().mean() for head in network.forward_heads(torch.randn(1, 5, 128, 64, 64))).backward()
    for name, parameter in network.named_parameters():
        frozen = name.startswith(group_prefixes(DEEP, group.value))
        assert parameter.requires_grad != frozen
        assert (parameter.grad is None) == frozen


def test_frozen_encoder_keeps_no_activation_for_a_gradient() -> None:
    def saved_bytes(group: Freeze) -> int:
        sizes = []
        network = UNet(SHALLOW)
        freeze(network, group)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            network.features(torch.randn(1, 5, 16, 16, 16))
        return sum(sizes)

    assert saved_bytes(Freeze.ENCODER) < 0.8 * saved_bytes(Freeze.NONE)


def test_folder_and_its_file_mean_the_same_verified_member(tmp_path: Path) -> None:
    members = write_weights(tmp_path, [random_network(SHALLOW)])
    folder, file = read_initial(tmp_path), read_initial(tmp_path / members[0].file)
    assert folder.member == file.member == members[0]
    assert folder.sha256 == file.sha256 == members[0].sha256
    network = UNet(SHALLOW)
    folder.put_into(network)
    for name, tensor in load_file(tmp_path / members[0].file).items():
        assert torch.equal(network.state_dict()[name], tensor.float())


def test_folder_of_several_files_asks_which(tmp_path: Path) -> None:
    write_weights(tmp_path, [random_network(SHALLOW), random_network(SHALLOW, seed=1)])
    with pytest.raises(UsageError, match="holds 2 files, not one"):
        read_initial(tmp_path)


def test_file_that_is_not_there_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--init .*none.safetensors: cannot be read"):
        read_initial(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=MANIFEST):
        read_initial(tmp_path)
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(WeightsError, match=r"text.safetensors: is no safetensors file"):
        read_initial(tmp_path / "text.safetensors")


def test_file_that_differs_from_its_manifest_is_refused(tmp_path: Path) -> None:
    members = write_weights(tmp_path, [random_network(SHALLOW)])
    save_weights(tmp_path / members[0].file, random_network(SHALLOW, seed=1))
    with pytest.raises(WeightsError, match="sha256 differs"):
        read_initial(tmp_path)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (UNetConfig(channels=(3, 6)), "down.2.conv1.weight"),
        (UNetConfig(channels=(3, 5, 6)), "down.3.conv1.weight"),
        (UNetConfig(channels=(3, 5), foreground=False), "down.1.conv1.weight"),
    ],
)
def test_weights_of_another_network_are_refused_by_the_first_difference(
    tmp_path: Path, config: UNetConfig, word: str
) -> None:
    save_weights(tmp_path / "a.safetensors", random_network(SHALLOW))
    with pytest.raises(UsageError, match=f"it differs in {word}"):
        read_initial(tmp_path / "a.safetensors").put_into(UNet(config))


def test_run_that_started_with_other_weights_is_not_gone_on_with(tmp_path: Path) -> None:
    config = TrainConfig(SHALLOW, "none", (8, 8, 8), steps=1, initial_sha256="a")
    train(config, SPLIT, TASKS["gli"], tmp_path, CPU)
    assert json.loads((tmp_path / "settings.json").read_text())["initial_sha256"] == "a"
    with pytest.raises(UsageError, match="other settings"):
        train(replace(config, initial_sha256="b"), SPLIT, TASKS["gli"], tmp_path, CPU)
