"""What an import writes, and the names that it understands."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from brats_infer.commands.info import describe, render
from brats_infer.errors import WeightsError
from brats_infer.files.labels import read_labels
from brats_infer.imported.labels import channels_of, outputs_of
from brats_infer.imported.model import Wanted
from brats_infer.imported.plans import network_of, plan_of
from brats_infer.imported.unfit import UnfitError
from brats_infer.imported.write import import_model
from brats_infer.network.devices import CPU
from brats_infer.network.loading import load_ensemble
from brats_infer.tasks import Rule
from model.checkpoint import load_member, read_manifest, write_manifest
from model.config import Member
from tests.imported.fixtures import CASE, GLI, MODELS, NAMES, change_json, copied, imported, model_folder, nnunet_says
from tests.small_networks import write_weights

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_members_survive_the_manifest_and_load(name: str, tmp_path: Path) -> None:
    members = imported(name, tmp_path)
    assert read_manifest(tmp_path) == members
    for member in members:
        network = load_member(tmp_path, member)
        assert network.config == member.config
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
        assert {tensor.dtype for tensor in load_file(tmp_path / member.file).values()} == {torch.float32}


def test_the_manifest_names_the_source(tmp_path: Path) -> None:
    first, second = imported("plain2-regions", tmp_path)
    assert first.source
    assert second.source
    assert first.source.program == "nnU-Net v2"
    assert first.source.model == "Dataset137_BraTS/nnUNetTrainer__nnUNetPlans__3d_fullres"
    assert (first.source.fold, second.source.fold) == ("0", "1")
    assert first.source.sha256 != second.source.sha256
    assert first.source.model_of_folds == second.source.model_of_folds
    assert (first.fold, first.licence, first.window, first.normalisation) == (
        0,
        "CC0-1.0",
        (16, 16, 16),
        "zscore-brain",
    )
    facts = describe(tmp_path)
    assert "nnU-Net v2, fold 1" in render(facts)


def test_the_axes_of_plans_become_x_y_z(tmp_path: Path) -> None:
    (flat,) = imported("flat4-labels", tmp_path / "flat")
    assert flat.window == (24, 16, 12)
    assert flat.config.kernels[0] == (3, 3, 1)
    assert flat.config.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 1, 2))
    assert flat.config.convolutions == (2, 1, 3, 2)
    assert flat.config.decoder_convolutions == (3, 2, 1)
    assert flat.normalisation == "zscore-box"
    (turned,) = imported("residual3-regions", tmp_path / "turned")
    plans = json.loads((model_folder("residual3-regions") / "plans.json").read_text())
    assert plans["transpose_forward"] == [1, 2, 0]  # y, x, z
    assert turned.window == (20, 16, 24)


def test_an_import_that_is_repeated_adds_nothing(tmp_path: Path) -> None:
    before = imported("plain2-regions", tmp_path)
    again = imported("plain2-regions", tmp_path)
    assert again == before == read_manifest(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_folds_are_chosen(tmp_path: Path) -> None:
    (member,) = imported("plain2-regions", tmp_path, folds=("1",))
    assert member.source
    assert member.source.fold == "1"


def test_imported_members_join_those_of_ours_and_of_other_folders(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    own = write_weights(tmp_path / "weights", [], file="x")
    assert own == []
    imported("plain2-regions", tmp_path / "other")
    found = import_model(tmp_path / "other", tmp_path / "weights", GLI, "", Wanted())
    assert [member.file for member in found] == ["gli-0.safetensors", "gli-1.safetensors"]
    assert [member.licence for member in found] == ["CC0-1.0"] * 2
    more = imported("flat4-labels", tmp_path / "weights")
    assert [member.fold for member in more] == [2]
    assert len(read_manifest(tmp_path / "weights")) == 3


@pytest.mark.parametrize("order", list(permutations((0, 1, 2))))
def test_regions_are_found_by_name_in_any_order(order: tuple[int, ...]) -> None:
    regions = [("whole tumor", [1, 2, 3]), ("Tumor_Core", [2, 3]), ("ET", 3)]
    labels = {"background": 0} | dict(regions[i] for i in order)
    found = outputs_of(labels, [1, 2, 3], GLI)
    assert [order[channel] for channel in found.order] == [0, 1, 2]
    assert (found.rule, found.background) == (Rule.INNERMOST, False)
    assert bool(found.note) == (order != (0, 1, 2))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ({"NCR": 1, "ED": 2, "ET": 3}, (0, 2, 1, 3)),
        ({"edema": 1, "necrotic core": 2, "enhancing tumor": 3}, (0, 1, 2, 3)),
        ({"ncr/net": 1, "peritumoral edema": 2, "ET": 4}, (0, 2, 1, 3)),
        ({"ET": 1, "NETC": 2, "SNFH": 3, "ignore": 4}, (0, 3, 2, 1)),
    ],
)
def test_labels_are_found_by_name(labels: dict[str, int], order: tuple[int, ...]) -> None:
    found = outputs_of({"background": 0, **labels}, None, GLI)
    assert (found.order, found.rule, found.background) == (order, Rule.ARGMAX, True)


def test_channels_are_found_by_name_or_as_given() -> None:
    assert channels_of(["FLAIR", "T1", "T1Gd", "T2"], ()) == (1, 2, 3, 0)
    assert channels_of(["a", "b", "c", "d"], ("t2f", "t2w", "t1c", "t1n")) == (3, 2, 1, 0)
    with pytest.raises(UnfitError, match="--channels"):
        channels_of(["T1", "T1", "T2", "FLAIR"], ())


def test_channels_that_dataset_json_does_not_name_are_given(tmp_path: Path) -> None:
    folder = copied("plain2-regions", tmp_path)
    change_json(folder / "dataset.json", channel_names={str(i): str(i) for i in range(4)})
    given = import_model(folder, tmp_path / "a", GLI, "", Wanted(channels=("t1n", "t1c", "t2w", "t2f"), folds=("0",)))
    named = imported("plain2-regions", tmp_path / "b", folds=("0",))
    assert given[0].sha256 == named[0].sha256


def test_a_reader_that_reorients_has_two_axes_reversed() -> None:
    plans = json.loads((model_folder("plain2-regions") / "plans.json").read_text())
    assert plan_of(plans, "3d_fullres").reversed_axes == ()
    assert plan_of({**plans, "image_reader_writer": "NibabelIOWithReorient"}, "3d_fullres").reversed_axes == (0, 1)


def test_a_configuration_inherits() -> None:
    plans = json.loads((model_folder("plain2-regions") / "plans.json").read_text())
    plans["configurations"]["bs4"] = {"inherits_from": "3d_fullres", "batch_size": 4, "patch_size": [24, 16, 16]}
    assert plan_of(plans, "bs4").patch == (16, 16, 24)
    plans["configurations"]["loop"] = {"inherits_from": "loop"}
    with pytest.raises(UnfitError, match="no configuration loop"):
        plan_of(plans, "loop")


def test_older_plans_tell_the_same_network() -> None:
    older, newer = (
        json.loads((model_folder(name) / "plans.json").read_text())["configurations"]["3d_fullres"]
        for name in ("plain5-older", "plain2-regions")
    )
    assert "architecture" not in older
    assert network_of(older).channels == (2, 4, 4, 4, 4)
    assert (network_of(older).bias, network_of(newer).bias) == (True, True)


def test_a_member_of_ours_has_no_source_in_its_manifest(tmp_path: Path) -> None:
    (member,) = imported("flat4-labels", tmp_path)
    own = replace(member, source=None, config=replace(member.config, background=False, logits=False))
    assert "source" not in own.to_json()
    write_manifest(tmp_path, [own])
    assert read_manifest(tmp_path) == [own]


def test_a_checkpoint_with_the_first_head_alone_has_no_deep_supervision(tmp_path: Path) -> None:
    """Older versions of nnU-Net keep no others."""
    folder = copied("residual3-regions", tmp_path)
    (file,) = folder.glob("fold_all/*.pth")
    content = torch.load(file, weights_only=True)
    for name in [name for name in content["network_weights"] if "seg_layers.0" in name]:
        del content["network_weights"][name]
    torch.save(content, file)
    (member,) = import_model(folder, tmp_path / "weights", GLI, "", Wanted())
    (whole,) = imported("residual3-regions", tmp_path / "whole")
    assert (member.config.head_levels, whole.config.head_levels) == ((1,), (1, 2))


def test_a_manifest_with_a_rule_or_averages_of_another_version_is_refused(tmp_path: Path) -> None:
    (member,) = imported("flat4-labels", tmp_path)
    assert member.source
    write_manifest(tmp_path, [replace(member, source=replace(member.source, rule="most"))])
    with pytest.raises(WeightsError, match="unknown rule 'most'"):
        load_ensemble(tmp_path, GLI, CPU)
    write_manifest(tmp_path, [replace(member, source=None)])
    with pytest.raises(WeightsError, match="imported members alone"):
        load_ensemble(tmp_path, GLI, CPU)
    for changes in ({"mirrored_axes": [3]}, {"rule": 1}, {"nnunet_windows": "yes"}, {"colour": "red"}):
        values = member.to_json()
        values["source"] |= changes
        with pytest.raises((TypeError, ValueError)):
            Member.from_json(values)


def test_a_command_imports_and_the_next_one_segments(tmp_path: Path) -> None:
    start = [sys.executable, "-c", "from brats_infer.cli import main; main()"]
    given = ["import", MODELS / "trained3-regions", "--task", "gli", "--weights", tmp_path / "weights"]
    done = subprocess.run(
        [*start, *given, "--licence", "CC0-1.0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry["licence"] for entry in json.loads(done.stdout)] == ["CC0-1.0"]
    case = tmp_path / "cases" / CASE.name
    shutil.copytree(CASE, case)
    given = ["--input", case.parent, "--output", tmp_path / "out", "--weights", tmp_path / "weights"]
    done = subprocess.run(
        [*start, *given, "--mode", "sliding-window"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    labels, _ = nnunet_says("trained3-regions", mirrored=False)
    found, _ = read_labels(tmp_path / "out" / f"{CASE.name}.nii.gz")
    assert 2 * np.count_nonzero((found > 0) & (labels > 0)) > 0.99 * (
        np.count_nonzero(found) + np.count_nonzero(labels)
    )


def test_the_fixtures_are_small() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_200_000
    assert np.load(MODELS / NAMES[0] / "expected.npz")["labels"].dtype == np.uint8
