"""Training on tiny cases: it learns, and what it writes is what was asked for."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from brats_infer.errors import OutputError, UsageError
from brats_infer.network.devices import computes_in_bf16
from brats_infer.train import checkpoint as state
from brats_infer.train import loop
from brats_infer.train.checkpoint import BEST, LAST, LOG, Run
from brats_infer.train.choices import Schedule, Selection, Targets, TrainOptions
from brats_infer.train.data.dataset import Split
from brats_infer.train.monitor.validation import validate
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.step.losses import deep_supervision_loss
from model.unet import UNet
from tests.train.small_runs import CONFIG, CPU, GLI, SPLIT, assert_same_run, run, split_of, state_of


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig, Split]:
    """The folder of a run that has found tumors."""
    out = tmp_path_factory.mktemp("learned")
    config = TrainConfig(TrainOptions(channels=(4, 8), patch=12, steps=60, validate_every=30, learning_rate=0.05))
    split = split_of(training=3, shape=(14, 13, 12))
    run(out, config, split)
    return out, config, split


def test_loss_falls_and_the_tumor_is_found(learned: tuple[Path, TrainConfig, Split]) -> None:
    out, _, _ = learned
    best = run(*learned)
    first, last = (json.loads(line)["loss"] for line in (out / LOG).read_text().splitlines())
    assert last < 0.9 * first
    assert best["cases"]["BraTS-GLI-00003-000"]["WT"]["dice"] > 0.6


def test_log_says_what_was_validated_when(uninterrupted: Path) -> None:
    entries = [json.loads(line) for line in (uninterrupted / LOG).read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [2, 3]  # every second step, and the last one
    for entry in entries:
        assert set(entry) == {"step", "loss", "patches_per_second", "score", "dice", "hd95", "cases"}
        assert list(entry["cases"]) == [SPLIT.validation[0].id]
        assert set(entry["cases"][SPLIT.validation[0].id]) == {"WT", "TC", "ET"}


def test_best_weights_score_what_the_log_says(learned: tuple[Path, TrainConfig, Split]) -> None:
    out, config, split = learned
    network = UNet(config.network)
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(out / BEST).items()})
    best = run(out, config, split)  # finished: only tells
    again = validate(network, split.validation, GLI, CPU, Selection.DICE)
    assert again["cases"].keys() == best["cases"].keys()
    for case_id, regions in best["cases"].items():
        for name, values in regions.items():
            assert again["cases"][case_id][name]["dice"] == pytest.approx(values["dice"], abs=5e-3), name  # 16 bits


def test_without_validation_cases_the_last_checkpoint_is_the_best(tmp_path: Path) -> None:
    best = run(tmp_path, split=replace(SPLIT, validation=()))
    assert best["step"] == CONFIG.options.steps
    mean = state_of(tmp_path)["mean"]
    for name, tensor in load_file(tmp_path / BEST).items():
        assert torch.equal(tensor, mean[name].half())


def test_last_checkpoint_is_kept_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.9, 0.2])
    monkeypatch.setattr(loop, "validate", lambda *_: {"score": next(scores), "dice": 0, "hd95": 0, "cases": {}})
    best = run(tmp_path, CONFIG.with_options(validate_every=1, select=Selection.LAST))
    assert best["step"] == CONFIG.options.steps
    mean = state_of(tmp_path)["mean"]
    for name, tensor in load_file(tmp_path / BEST).items():
        assert torch.equal(tensor, mean[name].half())


def test_of_equals_the_later_checkpoint_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.5, 0.2])
    config = CONFIG.with_options(validate_every=1)
    monkeypatch.setattr(loop, "validate", lambda *_: {"score": next(scores), "dice": 0, "hd95": 0, "cases": {}})
    saved: list[Path] = []
    monkeypatch.setattr(state, "save_weights", lambda path, _: saved.append(path))
    assert run(tmp_path, config)["step"] == 2
    assert saved == [tmp_path / BEST] * 2
    assert run(tmp_path, config)["step"] == 2


def test_same_seed_same_run(uninterrupted: Path, tmp_path: Path) -> None:
    torch.rand(3)
    run(tmp_path)
    assert_same_run(uninterrupted, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e7])
def test_weights_that_no_file_can_hold_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    started = loop.start_run

    def spoilt(*args: Any) -> Run:
        found = started(*args)
        with torch.no_grad():
            next(found.mean.parameters())[0] = value
        return found

    monkeypatch.setattr(loop, "start_run", spoilt)
    with pytest.raises(
        UsageError, match="the weights are NaN or beyond 65504 at step 2: choose a lower --learning-rate"
    ):
        run(tmp_path)
    assert not (tmp_path / BEST).exists()


@pytest.mark.skipif(not computes_in_bf16(), reason="the processor does not compute in bf16")
def test_a_bottom_of_two_voxels_a_side_trains_the_same_whatever_memory_holds(tmp_path: Path) -> None:
    """In bf16, torch's gradient of its weights is made of memory that nobody wrote to."""
    config = TrainConfig(TrainOptions(channels=(16, 64, 128), patch=8, steps=2, validate_every=2, batch=2))
    for number, out in enumerate(("one", "other")):
        rest = [torch.full((2**n,), float(number)) for n in range(8, 23, 2) for _ in range(8)]
        del rest  # which the next ones are given
        run(tmp_path / out, config)
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_loss_that_is_no_number_ends_the_run_and_spares_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = itertools.chain([torch.ones((), requires_grad=True)] * 2, [torch.tensor(float("nan"), requires_grad=True)])
    monkeypatch.setattr(loop, "deep_supervision_loss", lambda *_: next(losses))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: None)  # there are no gradients
    with pytest.raises(UsageError, match="nan at step 2"):
        run(tmp_path)
    assert state_of(tmp_path)["step"] == 2


@pytest.mark.parametrize("patch", [2, 9, 0])
def test_patch_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path, patch: int) -> None:
    with pytest.raises(UsageError, match="--patch"):
        run(tmp_path / "out", CONFIG.with_options(patch=patch))
    assert not (tmp_path / "out").exists()


def test_network_without_foreground_channel_is_trained(tmp_path: Path) -> None:
    config = CONFIG.with_options(foreground=False, steps=1)
    run(tmp_path, config)
    assert state_of(tmp_path)["network"]["down.1.conv1.weight"].shape[1] == 4


def test_network_of_disjoint_labels_is_trained_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def watch(heads: list[torch.Tensor], targets: torch.Tensor, loss: Any) -> torch.Tensor:
        seen.append(targets)
        return deep_supervision_loss(heads, targets, loss)

    monkeypatch.setattr(loop, "deep_supervision_loss", watch)
    run(tmp_path, CONFIG.with_options(targets=Targets.LABELS))
    assert all((targets.sum(1) <= 1).all() for targets in seen)
    assert any(bool(targets[:, 0].any()) for targets in seen)


def test_rate_that_was_used_is_the_schedules(tmp_path: Path) -> None:
    run(tmp_path, CONFIG.with_options(schedule=Schedule.EXPONENTIAL, decay=0.5, warm_up=0))  # two steps an epoch
    assert (
        state_of(tmp_path)["optimizer"]["param_groups"][0]["lr"] == CONFIG.options.learning_rate * 0.5
    )  # two steps an epoch


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be written .*choose another --out"):
        run(tmp_path / "file" / "out")


def test_disk_that_is_full_in_the_middle_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = state.write_atomically

    def full(path: Path, content: bytes) -> None:
        if path.name == LAST:
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(state, "write_atomically", full)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\): free some space"):
        run(tmp_path)
