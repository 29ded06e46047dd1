"""Transfer learning: what training starts with, and what it leaves alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from brats_infer.errors import UsageError, WeightsError
from brats_infer.tasks import TASKS
from brats_infer.train.checkpoint import BEST, LAST
from brats_infer.train.choices import Freeze, Targets, TrainOptions, merged_options
from brats_infer.train.loop import train
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.transfer import freeze, options_with, read_initial
from model.checkpoint import MANIFEST, save_weights
from model.config import UNetConfig
from model.unet import UNet, group_prefixes
from tests.small_networks import random_network, write_weights
from tests.train.small_runs import split_of

CPU = torch.device("cpu")
DEEP = UNetConfig(channels=(2, 3, 4, 5, 6))
SHALLOW = UNetConfig(channels=(3, 5))
SPLIT = split_of(shape=(10, 9, 8))


@pytest.mark.parametrize("group", Freeze)
def test_frozen_parameters_keep_every_bit_and_the_others_do_not(tmp_path: Path, group: Freeze) -> None:
    file = tmp_path / "initial.safetensors"
    save_weights(file, random_network(DEEP))
    initial = read_initial(file)
    options = TrainOptions(
        channels=DEEP.channels,
        normalisation="none",
        patch=32,
        steps=2,
        learning_rate=0.05,
        warm_up=0,
        weight_decay=0.1,
        freeze=group,
    )
    config = TrainConfig(options)
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
    sum(head.square().mean() for head in network.forward_heads(torch.randn(1, 5, 32, 16, 16))).backward()
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


FED: dict[str, Any] = {"channels": (3, 5, 6, 7), "foreground": False, "spacing": 2, "normalisation": "zscore"}
NETWORK = UNetConfig(channels=(3, 5, 6, 7), foreground=False, spacing=2)


def bare(folder: Path, network: UNetConfig = NETWORK) -> Path:
    folder.mkdir(exist_ok=True)
    save_weights(folder / "some.safetensors", random_network(network))
    return folder / "some.safetensors"


def test_a_runs_folder_and_its_best_file_tell_network_grid_and_normalisation(tmp_path: Path) -> None:
    options = TrainOptions(**FED, targets=Targets.LABELS, deep_supervision=False, patch=16, steps=1, dropout=0.5)
    train(TrainConfig(options), SPLIT, TASKS["gli"], tmp_path, CPU)
    for path in (tmp_path, tmp_path / BEST):
        initial = read_initial(path)
        assert initial.path == tmp_path / BEST
        assert initial.member is None
        expected = TrainOptions(**FED, targets=Targets.LABELS, deep_supervision=False, patch=32)
        found = options_with(initial, {"channels": [16, 32], "patch": 32}, {})
        assert found == expected
        initial.put_into(UNet(TrainConfig(found).network))


def test_settings_of_an_earlier_version_tell_the_network_too(tmp_path: Path) -> None:
    file = bare(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({"network": NETWORK.to_json(), "normalisation": "zscore"}))
    assert options_with(read_initial(file), {}, {}) == TrainOptions(**FED)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"network": {"channels": 3}, "normalisation": "none"}'])
def test_settings_that_tell_no_network_are_named(tmp_path: Path, text: str) -> None:
    file = bare(tmp_path)
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(UsageError, match=r"settings\.json: does not tell the network of the run \(.*\): move"):
        read_initial(file)


def test_a_run_without_a_checkpoint_has_no_weights(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(UsageError, match=r"--init .*best\.safetensors: cannot be read"):
        read_initial(tmp_path)


def test_a_manifest_tells_the_network(tmp_path: Path) -> None:
    write_weights(tmp_path, [random_network(NETWORK)], normalisation="zscore", window=(16, 16, 16))
    (tmp_path / "settings.json").write_text("{}")
    for path in (tmp_path, tmp_path / "small-0.safetensors"):
        assert options_with(read_initial(path), {}, {}) == TrainOptions(**FED)


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("foreground", [True, False])
def test_a_bare_file_tells_its_network_and_asks_for_the_rest(tmp_path: Path, deep: bool, foreground: bool) -> None:
    network = replace(NETWORK, deep_supervision=deep, foreground=foreground)
    initial = read_initial(bare(tmp_path, network))
    with_or_without = [{True: "with", False: "without"}[found] for found in (foreground, deep)]
    with pytest.raises(UsageError) as raised:
        options_with(initial, {}, {})
    assert str(raised.value) == (
        f"--init {initial.path}: holds a network of --channels 3,5,6,7, {with_or_without[0]} foreground channel, "
        f"{with_or_without[1]} deep supervision, of 3 regions; nothing beside it tells the rest: give --spacing and "
        "--normalisation"
    )
    with pytest.raises(UsageError, match=r"tells the rest: give --spacing$"):
        options_with(initial, {"normalisation": "zscore"}, {})
    options = options_with(initial, {"normalisation": "zscore"}, {"spacing": 2})
    assert TrainConfig(options).network == network
    initial.put_into(UNet(network))


def test_number_of_regions_is_read_from_the_tensors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of 2 regions"):
        options_with(read_initial(bare(tmp_path, replace(NETWORK, regions=2))), {}, {})


def test_without_initial_weights_the_options_are_those_given() -> None:
    assert options_with(None, {"steps": 3, "ema": 0.5}, {"steps": 4}) == merged_options({"steps": 4, "ema": 0.5})


def test_tensors_of_another_program_are_refused(tmp_path: Path) -> None:
    for tensors in ({"weight": torch.zeros(1)}, {"down.1.conv1.weight": torch.zeros(3, 4, 1, 1, 1)}):
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(UsageError, match=r"other\.safetensors: holds no network of brats-opt"):
            read_initial(tmp_path / "other.safetensors")


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
    config = TrainConfig(TrainOptions(channels=SHALLOW.channels, normalisation="none", patch=8, steps=1), "a")
    train(config, SPLIT, TASKS["gli"], tmp_path, CPU)
    assert json.loads((tmp_path / "settings.json").read_text())["initial_sha256"] == "a"
    with pytest.raises(UsageError, match="other settings"):
        train(replace(config, initial_sha256="b"), SPLIT, TASKS["gli"], tmp_path, CPU)
