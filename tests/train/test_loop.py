"""Training on tiny cases: it learns, it can be stopped anywhere and goes on as if it had not been."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from brats_infer.devices import computes_in_bf16
from brats_infer.errors import OutputError, Terminated, UsageError
from brats_infer.tasks import TASKS
from brats_infer.train import loop, state
from brats_infer.train.choices import Optimizer, Schedule, Selection
from brats_infer.train.config import TrainConfig
from brats_infer.train.data import Split
from brats_infer.train.distributed import Heads, Workers
from brats_infer.train.loop import train
from brats_infer.train.losses import deep_supervision_loss
from brats_infer.train.state import BEST, LAST, LOG, SETTINGS, TABLE, Run
from brats_infer.train.validation import validate
from model.unet import UNet, UNetConfig
from tests.small_networks import training_case

CPU = torch.device("cpu")
GLI = TASKS["gli"]
CONFIG = TrainConfig(UNetConfig(channels=(3, 5)), "zscore+rescale", patch=(8, 8, 8), steps=3, validate_every=2)


def split_of(training: int = 2, shape: tuple[int, int, int] = (10, 9, 8)) -> Split:
    """Some cases to train on and one held out."""
    rng = np.random.default_rng(0)
    *cases, last = (training_case(f"BraTS-GLI-{i:05d}-000", rng, shape) for i in range(training + 1))
    return Split(tuple(cases), (last,))


SPLIT = split_of()


def run(out: Path, config: TrainConfig = CONFIG, split: Split = SPLIT) -> dict[str, Any]:
    return train(config, split, GLI, out, CPU)


def state_of(out: Path) -> dict[str, Any]:
    state = torch.load(out / LAST, weights_only=True)
    assert isinstance(state, dict)
    return state


def log_of(out: Path) -> list[dict[str, Any]]:
    """The log, without what depends on the time."""
    entries = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key != "patches_per_second"} for entry in entries]


def assert_same_run(one: Path, other: Path) -> None:
    a, b = state_of(one), state_of(other)
    for name in ("network", "mean"):
        for key, tensor in a[name].items():
            assert torch.equal(tensor, b[name][key]), key
    for index, moments in a["optimizer"]["state"].items():
        for key, tensor in moments.items():
            assert torch.equal(tensor, b["optimizer"]["state"][index][key]), key
    assert a["step"] == b["step"]
    assert log_of(one) == log_of(other)
    assert (one / BEST).read_bytes() == (other / BEST).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    run(out)
    return out


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig, Split]:
    """The folder of a run that has found tumors."""
    out, network = tmp_path_factory.mktemp("learned"), UNetConfig(channels=(4, 8))
    config = TrainConfig(network, "zscore+rescale", (12, 12, 12), steps=60, validate_every=30, learning_rate=0.05)
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
    assert best["step"] == CONFIG.steps
    mean = state_of(tmp_path)["mean"]
    for name, tensor in load_file(tmp_path / BEST).items():
        assert torch.equal(tensor, mean[name].half())


def test_last_checkpoint_is_kept_where_it_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.9, 0.2])
    monkeypatch.setattr(loop, "validate", lambda *_: {"score": next(scores), "dice": 0, "hd95": 0, "cases": {}})
    best = run(tmp_path, replace(CONFIG, validate_every=1, select=Selection.LAST))
    assert best["step"] == CONFIG.steps
    mean = state_of(tmp_path)["mean"]
    for name, tensor in load_file(tmp_path / BEST).items():
        assert torch.equal(tensor, mean[name].half())


def test_of_equals_the_later_checkpoint_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.5, 0.2])
    config = replace(CONFIG, validate_every=1)
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


def at_call(function: Callable[..., Any], call: int, event: Callable[[], None]) -> Callable[..., Any]:
    """The function, with an event in the middle of its n-th call."""
    calls = itertools.count(1)

    def wrapped(*args: Any, **options: Any) -> Any:
        result = function(*args, **options)
        if next(calls) == call:
            event()
        return result

    return wrapped


def send_at(function: Callable[..., Any], call: int, number: int) -> Callable[..., Any]:
    return at_call(function, call, lambda: os.kill(os.getpid(), number))


class Two(Workers):
    """One of two processes, alone."""

    def __init__(self) -> None:
        super().__init__(0, 2)

    def share(self, total: int) -> range:
        return range(total)

    def gather(self, mine: dict[str, Any]) -> dict[str, Any]:
        return mine

    def meet(self) -> None:
        pass

    def mean(self, value: torch.Tensor) -> float:
        return float(value.detach())


def fail_at(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    def fail() -> None:
        raise MemoryError

    return at_call(function, call, fail)


@pytest.mark.parametrize(
    ("name", "call", "number", "error"),
    [
        ("deep_supervision_loss", 3, signal.SIGINT, KeyboardInterrupt),  # in a step
        ("validate", 1, signal.SIGTERM, Terminated),
        ("validate", 2, signal.SIGINT, KeyboardInterrupt),  # the last one
        ("save_weights", 1, signal.SIGTERM, Terminated),
    ],
)
def test_run_stopped_by_a_signal_goes_on_as_if_it_had_not_been(
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    call: int,
    number: int,
    error: type[BaseException],
) -> None:
    before = signal.getsignal(number)
    module = state if name == "save_weights" else loop
    with monkeypatch.context() as patched:
        patched.setattr(module, name, send_at(getattr(module, name), call, number))
        with pytest.raises(error):
            run(tmp_path)
    assert signal.getsignal(number) == before
    assert {path.name for path in tmp_path.iterdir() if "tfevents" not in path.name} <= {
        LAST,
        LOG,
        BEST,
        TABLE,
        SETTINGS,
    }
    run(tmp_path)
    assert_same_run(uninterrupted, tmp_path)


def test_second_signal_does_not_stop_the_saving(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "deep_supervision_loss", send_at(loop.deep_supervision_loss, 1, signal.SIGINT))
        save = loop.save_run

        def interrupted(*given: Any, **options: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            save(*given, **options)

        patched.setattr(loop, "save_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert signal.getsignal(signal.SIGINT) == before
    assert state_of(tmp_path)["step"] == 1
    run(tmp_path)
    assert_same_run(uninterrupted, tmp_path)


def test_stopped_after_every_step_it_still_ends_the_same(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, CONFIG.steps + 1):
        with monkeypatch.context() as patched:
            patched.setattr(loop, "draw_batch", send_at(loop.draw_batch, 1, signal.SIGTERM))
            with pytest.raises(Terminated):
                run(tmp_path)
        assert state_of(tmp_path)["step"] == step
    run(tmp_path)
    assert_same_run(uninterrupted, tmp_path)


@pytest.mark.parametrize(("name", "call"), [("draw_batch", 3), ("save_weights", 1)])
def test_run_that_died_goes_on_from_its_last_checkpoint(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    module = state if name == "save_weights" else loop
    with monkeypatch.context() as patched:
        patched.setattr(module, name, fail_at(getattr(module, name), call))
        with pytest.raises(MemoryError):
            run(tmp_path)
    run(tmp_path)
    assert_same_run(uninterrupted, tmp_path)


def gone() -> None:
    raise RuntimeError("Connection closed by peer\nat some line")


@pytest.mark.parametrize("signalled", [False, True])
def test_a_run_whose_other_process_has_gone_leaves_the_step_that_it_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: bool
) -> None:
    """Of two, one that a signal has stopped; the signal may have come to this one too, or not yet."""

    def end() -> None:
        if signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        gone()

    config, out = replace(CONFIG, batch=2), tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "deep_supervision_loss", at_call(loop.deep_supervision_loss, 2, end))
        patched.setattr(state, "heads_of", lambda network, _: Heads(network))
        with pytest.raises((Terminated, UsageError)) as raised:
            train(config, SPLIT, GLI, out, CPU, workers=Two())
    assert isinstance(raised.value, Terminated) is signalled
    if not signalled:
        assert str(raised.value) == (
            f"{out}: another process has ended (Connection closed by peer): see why, then start the run again"
        )
    assert state_of(out)["step"] == 1
    for folder in (out, tmp_path / "whole"):
        run(folder, config)
    assert_same_run(tmp_path / "whole", out)


def test_a_runtime_error_of_one_process_is_no_others_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "deep_supervision_loss", at_call(loop.deep_supervision_loss, 2, gone))
    with pytest.raises(RuntimeError, match="Connection closed by peer"):
        run(tmp_path)


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
    network = UNetConfig(channels=(16, 64, 128))
    config = TrainConfig(network, "zscore+rescale", patch=(8, 8, 8), steps=2, validate_every=2, batch=2)
    for number, out in enumerate(("one", "other")):
        rest = [torch.full((2**n,), float(number)) for n in range(8, 23, 2) for _ in range(8)]
        del rest  # which the next ones are given
        run(tmp_path / out, config)
    assert_same_run(tmp_path / "one", tmp_path / "other")


def test_ignored_interrupt_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(loop, "draw_batch", send_at(loop.draw_batch, 1, signal.SIGINT))
        assert run(tmp_path, replace(CONFIG, steps=1))["step"] == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_finished_run_is_told_again_and_left_alone(uninterrupted: Path) -> None:
    before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
    assert run(uninterrupted)["dice"] == max(entry["dice"] for entry in log_of(uninterrupted))
    assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [{"steps": 4}, {"seed": 1}, {"network": UNetConfig(channels=(3, 6))}, {"normalisation": "zscore"}],
    ids=str,
)
def test_folder_of_other_settings_is_refused(uninterrupted: Path, change: dict[str, Any]) -> None:
    before = (uninterrupted / LAST).read_bytes()
    with pytest.raises(UsageError, match=LAST):
        run(uninterrupted, replace(CONFIG, **change))
    assert (uninterrupted / LAST).read_bytes() == before


@pytest.mark.parametrize(
    "split",
    [
        Split(SPLIT.training + SPLIT.validation, SPLIT.validation),
        Split(SPLIT.training[:1], SPLIT.validation),
        Split(SPLIT.training[:1] + SPLIT.validation, SPLIT.training[1:]),
        Split(SPLIT.training, ()),
    ],
    ids=["a held-out case more", "a case less", "swapped", "none held out"],
)
def test_folder_of_other_cases_is_refused(uninterrupted: Path, split: Split) -> None:
    with pytest.raises(UsageError, match="other settings or cases"):
        run(uninterrupted, split=split)


@pytest.mark.parametrize("damage", [lambda b: b[:1000], lambda b: b"", lambda b: b"text"])
def test_damaged_checkpoint_is_refused(uninterrupted: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / LAST).write_bytes(damage((uninterrupted / LAST).read_bytes()))
    with pytest.raises(UsageError, match="damaged"):
        run(tmp_path)


def test_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / LAST)
    with pytest.raises(UsageError, match="another version"):
        run(tmp_path)


def test_loss_that_is_no_number_ends_the_run_and_spares_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = itertools.chain([torch.ones((), requires_grad=True)] * 2, [torch.tensor(float("nan"), requires_grad=True)])
    monkeypatch.setattr(loop, "deep_supervision_loss", lambda *_: next(losses))
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: None)  # there are no gradients
    with pytest.raises(UsageError, match="nan at step 2"):
        run(tmp_path)
    assert state_of(tmp_path)["step"] == 2


@pytest.mark.parametrize("patch", [(2, 2, 2), (8, 8, 9), (0, 8, 8)])
def test_patch_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, patch: tuple[int, int, int]
) -> None:
    with pytest.raises(UsageError, match="--patch"):
        run(tmp_path / "out", replace(CONFIG, patch=patch))
    assert not (tmp_path / "out").exists()


def test_network_without_foreground_channel_is_trained(tmp_path: Path) -> None:
    config = replace(CONFIG, network=replace(CONFIG.network, foreground=False), steps=1)
    run(tmp_path, config)
    assert state_of(tmp_path)["network"]["down.1.conv1.weight"].shape[1] == 4


def test_dropout_and_every_other_choice_are_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = replace(CONFIG.network, dropout=0.3, disjoint=True)
    config = replace(CONFIG, network=network, loss="dice-focal-edge", optimizer=Optimizer.SGD, schedule=Schedule.POLY)
    run(tmp_path / "whole", config)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "draw_batch", send_at(loop.draw_batch, 2, signal.SIGTERM))
        with pytest.raises(Terminated):
            run(tmp_path / "stopped", config)
    torch.rand(5)
    run(tmp_path / "stopped", config)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_network_of_disjoint_labels_is_trained_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def watch(heads: list[torch.Tensor], targets: torch.Tensor, loss: Any) -> torch.Tensor:
        seen.append(targets)
        return deep_supervision_loss(heads, targets, loss)

    monkeypatch.setattr(loop, "deep_supervision_loss", watch)
    run(tmp_path, replace(CONFIG, network=replace(CONFIG.network, disjoint=True)))
    assert all((targets.sum(1) <= 1).all() for targets in seen)
    assert any(bool(targets[:, 0].any()) for targets in seen)


def test_rate_that_was_used_is_the_schedules(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, schedule=Schedule.EXPONENTIAL, decay=0.5, warm_up=0))
    assert state_of(tmp_path)["optimizer"]["param_groups"][0]["lr"] == CONFIG.learning_rate * 0.5  # two steps an epoch


def test_what_a_validation_raises_ends_the_run_behind_its_checkpoint(tmp_path: Path) -> None:
    def stop(entry: dict[str, Any]) -> None:
        raise RuntimeError(str(entry["step"]))

    with pytest.raises(RuntimeError, match="2"):
        train(CONFIG, SPLIT, GLI, tmp_path, CPU, on_validation=stop)
    assert state_of(tmp_path)["step"] == 2


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
