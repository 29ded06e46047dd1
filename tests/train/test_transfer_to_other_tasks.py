"""Weights of one challenge start a network of another: what means the same is carried over, the rest is random."""

from pathlib import Path

import pytest
import torch

from brats_infer.errors import UsageError
from brats_infer.phantom.write import write_cohort
from brats_infer.tasks import TASKS, meaning_of
from brats_infer.train.choices import merged_options
from brats_infer.train.data.material import Material
from brats_infer.train.data.splits import Fold
from brats_infer.train.recipes import read_recipe, recipe_names
from brats_infer.train.run import prepare, run
from brats_infer.train.transfer import new_regions, options_with, read_initial
from model.config import UNetConfig
from model.unet import UNet
from tests.small_networks import random_network, write_weights

LATER = ("gli-post", "met", "ped", "goat", "men-rt")
NO_FOLD = Fold(None, ())
GLI = UNetConfig(channels=(3, 5, 6))


def network_for(task: str, seed: int = 5) -> UNet:
    of = TASKS[task]
    config = UNetConfig(channels=GLI.channels, modalities=len(of.modalities), regions=len(of.regions))
    return random_network(config, seed)


def test_a_recipe_leads_to_each_later_challenge() -> None:
    assert {name for name in recipe_names() if name.startswith("transfer-")} == {f"transfer-{task}" for task in LATER}
    for task in LATER:
        recipe = read_recipe(f"transfer-{task}")
        assert (recipe.task, recipe.init, recipe.trains, recipe.row) == (task, True, True, None)
        merged_options(recipe.options)


@pytest.mark.parametrize("task", [*LATER, "ssa", "men"])
def test_heads_and_inputs_that_mean_the_same_keep_their_weights(tmp_path: Path, task: str) -> None:
    write_weights(tmp_path, [random_network(GLI)])
    initial, network = read_initial(tmp_path), network_for(task)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    initial.put_into(network, TASKS[task])
    sources = [meaning_of(region) for region in TASKS["gli"].regions]
    for name, tensor in network.state_dict().items():
        old = initial.state[name]
        if name.startswith("heads."):
            for to, region in enumerate(TASKS[task].regions):
                known = meaning_of(region) in sources
                expected = old[sources.index(meaning_of(region))] if known else before[name][to]
                assert torch.equal(tensor[to], expected), (name, region.name)
        elif name == "down.1.conv1.weight":
            for to, modality in enumerate(TASKS[task].modalities):
                assert torch.equal(tensor[:, to], old[:, TASKS["gli"].modalities.index(modality)]), modality.name
            assert torch.equal(tensor[:, -1], old[:, -1])  # the brain mask
        else:
            assert torch.equal(tensor, old), name


def test_what_a_task_has_in_common_with_gli() -> None:
    """The facts of the test above, by hand."""
    common = {task: [region.name for region in TASKS[task].regions] for task in LATER}
    assert common["gli-post"] == common["met"] == ["WT", "TC", "ET", "RC"]
    assert common["ped"] == ["WT", "TC", "CC", "ET"]
    assert [meaning_of(region) for region in TASKS["men-rt"].regions] == ["TC"]


def test_a_contrast_that_the_weights_lack_starts_at_random(tmp_path: Path) -> None:
    write_weights(tmp_path, [network_for("men-rt")], task="men-rt")
    initial, network = read_initial(tmp_path), random_network(GLI, seed=1)
    before = network.state_dict()["down.1.conv1.weight"].clone()
    initial.put_into(network, TASKS["gli"])
    found, old = network.state_dict()["down.1.conv1.weight"], initial.state["down.1.conv1.weight"]
    assert torch.equal(found[:, (1, 4)], old)
    assert torch.equal(found[:, (0, 2, 3)], before[:, (0, 2, 3)])


def test_weights_of_other_channels_are_refused_as_ever(tmp_path: Path) -> None:
    write_weights(tmp_path, [random_network(UNetConfig(channels=(4, 5, 5)))])
    with pytest.raises(UsageError, match=r"it differs in down\.1\.conv1\.weight"):
        read_initial(tmp_path).put_into(network_for("met"), TASKS["met"])


@pytest.mark.parametrize(("task", "new"), [("met", ["RC"]), ("ped", ["CC"]), ("goat", []), ("men-rt", [])])
def test_regions_of_new_meaning_are_named(tmp_path: Path, task: str, new: list[str]) -> None:
    write_weights(tmp_path, [random_network(GLI)])
    assert new_regions(read_initial(tmp_path), TASKS[task]) == new


def test_outputs_at_random_are_not_frozen(tmp_path: Path) -> None:
    write_weights(tmp_path, [random_network(GLI)])
    options = options_with(read_initial(tmp_path), {}, {"freeze": "decoder", "patch": 8})
    with pytest.raises(UsageError, match=r"--freeze decoder: would keep the random output of RC: freeze another"):
        prepare(options, NO_FOLD, "met", Material(tmp_path, tmp_path), read_initial(tmp_path))


@pytest.mark.parametrize("task", LATER)
def test_a_run_from_gli_trains_on_phantoms_of_the_challenge(tmp_path: Path, task: str) -> None:
    (tmp_path / "weights").mkdir()
    write_weights(tmp_path / "weights", [random_network(GLI)], normalisation="zscore")
    list(write_cohort(tmp_path / "data", task, 1, seed=0, shape=(24, 26, 22)))
    given = {"steps": 2, "patch": 8, "validate_every": 2, "warm_up": 1}
    run(
        given,
        recipe=f"transfer-{task}",
        task=None,
        data=tmp_path / "data",
        out=tmp_path / "run",
        init=tmp_path / "weights",
        device="cpu",
        publish_to=None,
        trained_on="",
        licence="",
    )
    again = read_initial(tmp_path / "run")
    assert again.task == task
    assert again.architecture.regions == len(TASKS[task].regions)
    assert again.architecture.modalities == len(TASKS[task].modalities)
    first = read_initial(tmp_path / "weights").state["down.2.conv1.weight"]
    assert torch.allclose(again.state["down.2.conv1.weight"], first, atol=0.02)
    assert not torch.equal(again.state["down.2.conv1.weight"], first)
