"""Training can be stopped anywhere and goes on as if it had not been; what is no such run is refused."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from brats_infer.errors import Terminated, UsageError
from brats_infer.train import checkpoint as state
from brats_infer.train import loop
from brats_infer.train.checkpoint import BEST, LAST, LOG, SETTINGS, TABLE
from brats_infer.train.choices import Optimizer, Schedule, Targets
from brats_infer.train.data.dataset import Split
from brats_infer.train.distributed import Heads, Workers
from brats_infer.train.loop import train
from tests.train.small_runs import CONFIG, CPU, GLI, SPLIT, assert_same_run, log_of, run, state_of


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
    for step in range(1, CONFIG.options.steps + 1):
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

    config, out = CONFIG.with_options(batch=2), tmp_path / "out"
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


def test_ignored_interrupt_stays_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(loop, "draw_batch", send_at(loop.draw_batch, 1, signal.SIGINT))
        assert run(tmp_path, CONFIG.with_options(steps=1))["step"] == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_finished_run_is_told_again_and_left_alone(uninterrupted: Path) -> None:
    before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
    assert run(uninterrupted)["dice"] == max(entry["dice"] for entry in log_of(uninterrupted))
    assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before


@pytest.mark.parametrize(
    "change",
    [{"steps": 4}, {"seed": 1}, {"channels": (3, 6)}, {"normalisation": "zscore"}],
    ids=str,
)
def test_folder_of_other_settings_is_refused(uninterrupted: Path, change: dict[str, Any]) -> None:
    before = (uninterrupted / LAST).read_bytes()
    with pytest.raises(UsageError, match=LAST):
        run(uninterrupted, CONFIG.with_options(**change))
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


def test_dropout_and_every_other_choice_are_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = {"dropout": 0.3, "targets": Targets.LABELS}
    others = {"loss": "dice-focal-edge", "drop_contrasts": 0.4, "optimizer": Optimizer.SGD, "schedule": Schedule.POLY}
    config = CONFIG.with_options(**network, **others)
    run(tmp_path / "whole", config)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "draw_batch", send_at(loop.draw_batch, 2, signal.SIGTERM))
        with pytest.raises(Terminated):
            run(tmp_path / "stopped", config)
    torch.rand(5)
    run(tmp_path / "stopped", config)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_what_a_validation_raises_ends_the_run_behind_its_checkpoint(tmp_path: Path) -> None:
    def stop(entry: dict[str, Any]) -> None:
        raise RuntimeError(str(entry["step"]))

    with pytest.raises(RuntimeError, match="2"):
        train(CONFIG, SPLIT, GLI, tmp_path, CPU, on_validation=stop)
    assert state_of(tmp_path)["step"] == 2
