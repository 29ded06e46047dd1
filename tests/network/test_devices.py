"""A device that works, and where to go when it is too small. There is no GPU here: what it would do is simulated."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from brats_infer.errors import UsageError, is_out_of_memory
from brats_infer.labelling.label_map import found_in
from brats_infer.network.devices import CPU
from brats_infer.network.engines import TorchEngine
from brats_infer.network.ensemble import Inputs
from brats_infer.network.gpu import ensemble as ensembles
from brats_infer.network.gpu import turns
from brats_infer.network.gpu.ensemble import GpuEnsemble, fetched, placements
from brats_infer.network.gpu.faults import fault_of, try_out
from brats_infer.network.gpu.half_engine import in_half
from brats_infer.network.gpu.turns import Asked, Turn, turn_at
from brats_infer.network.loading import ensemble_of, pick_device, torch_engine
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from model.unet import UNet
from tests.small_networks import SMALL, brain_images, cropped_of, found_by, member_of, predicted, random_network

GLI = TASKS["gli"]
GPU = torch.device("cpu:0")  # another device than the CPU to the ladder, the same one to torch


@pytest.mark.parametrize(
    "name",
    ["", "gpu", "CPU", "cpu:0", "cpu ", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "cuda:01", "cuda:٣", "meta", "mps"],
)
def test_unknown_device_is_wrong_usage(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device"):
        pick_device(name)


@pytest.mark.parametrize(
    ("name", "devices"),
    [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:256", 2), ("cuda:99999999999999999999", 1)],
)
def test_cuda_device_that_is_not_there(name: str, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(devices, monkeypatch)
    with pytest.raises(UsageError, match=f"--device {name}: this machine offers {devices} "):
        pick_device(name)


@pytest.mark.parametrize(
    ("name", "devices", "expected"),
    [
        ("cpu", 0, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda:0"),
        ("cuda", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
        ("cpu", 2, "cpu"),
    ],
)
def test_devices_that_are_there(name: str, devices: int, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(devices, monkeypatch)
    assert str(pick_device(name)) == expected


@pytest.mark.parametrize(("rank", "devices", "expected"), [("1", 2, "cuda:1"), ("3", 2, "cuda:1"), ("3", 1, "cuda:0")])
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_torchrun_takes_its_own_gpu(
    name: str, rank: str, devices: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    offer(devices, monkeypatch)
    assert str(pick_device(name)) == expected
    assert pick_device("cuda:0") == torch.device("cuda:0")


def offer(devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(fault_of.__module__ + ".try_out", lambda _: None)


@pytest.mark.parametrize("fault", ["CUDA error: no kernel image is available\nmore", "CUDA out of memory"])
def test_gpu_that_cannot_compute_is_left_alone_unless_it_was_asked_for(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError(fault)

    offer(1, monkeypatch)
    monkeypatch.setattr(fault_of.__module__ + ".try_out", fail)
    assert pick_device("auto") == CPU
    assert fault.splitlines()[0] in caplog.text
    assert "the CPU is used" in caplog.text
    with pytest.raises(UsageError, match=f"--device cuda: torch .*{fault.splitlines()[0]}.*choose --device"):
        pick_device("cuda")


def test_machine_without_a_gpu_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    offer(0, monkeypatch)
    assert pick_device("auto") == CPU
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    caplog.clear()
    assert pick_device("cpu") == CPU
    assert not caplog.records


class Operations(TorchDispatchMode):
    """Which convolutions and norms are computed, and in which precision."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, torch.dtype]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if "conv" in name or "norm" in name:
            self.seen.add((name, args[0].dtype))
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def test_a_gpu_is_tried_with_all_that_its_engine_computes_with() -> None:
    half = in_half(random_network())
    with Operations() as of_network:
        half(torch.randn(1, SMALL.in_channels, 8, 8, 8).to(torch.float16, memory_format=torch.channels_last_3d))
    with Operations() as tried:
        try_out(CPU)
    assert len(of_network.seen) == 3, "convolutions of both kinds, and a norm"
    assert tried.seen == of_network.seen


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What a GPU without memory answers to the next passes through a network; the rest goes through."""
    answers: list[str] = []
    forward = UNet.forward

    def pass_through(network: UNet, x: Tensor) -> Tensor:
        if answers:
            raise torch.OutOfMemoryError(answers.pop(0))
        return forward(network, x)

    monkeypatch.setattr(UNet, "forward", pass_through)
    yield answers
    assert not answers


def test_each_step_needs_less_of_the_gpu() -> None:
    assert [(step.networks, step.sums) for step in placements(GPU)] == [(GPU, GPU), (GPU, CPU), (CPU, CPU)]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(
    ("failures", "note"), [(0, ""), (1, ""), (2, "sums were kept on the CPU"), (3, "computed on the CPU")]
)
def test_gpu_that_is_too_small_gives_the_same_result_in_smaller_steps(
    attempts: list[str], mode: Mode, failures: int, note: str
) -> None:
    images = brain_images((12, 10, 9), np.random.default_rng(0))
    coarse = replace(SMALL, spacing=2)
    members = ((member_of(), random_network(seed=1)), (member_of(config=coarse), random_network(coarse, seed=2)))
    expected = predicted(members, images, mode, flips=True)
    attempts += ["CUDA out of memory. Tried to allocate 9 GiB"] * failures
    found = found_by(members, images, mode, flips=True, device=GPU)
    np.testing.assert_array_equal(found.probabilities, expected)
    assert [note in line for line in found.notes] == [True] * bool(note)


def test_case_behind_one_that_went_to_the_cpu_is_computed_on_the_gpu_again(
    attempts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Module.to` moves a network in place, from under the engine that has put it on the GPU."""
    where: dict[int, torch.device] = {}
    passes: list[torch.device] = []
    move, compute = UNet.to, TorchEngine._logits

    def moved(network: UNet, device: torch.device) -> UNet:
        where[id(network)] = device
        return move(network, device)

    def computed(engine: TorchEngine, padded: Tensor) -> Tensor:
        assert where.get(id(engine.network), CPU) == engine.device
        passes.append(engine.device)
        return compute(engine, padded)

    monkeypatch.setattr(UNet, "to", moved)
    monkeypatch.setattr(TorchEngine, "_logits", computed)
    ensemble = ensemble_of(GLI, [(member_of(), random_network())], GPU, make_engine=torch_engine)
    prepared = ensemble.prepare(cropped_of(brain_images((12, 10, 9), np.random.default_rng(0))))
    attempts += ["CUDA out of memory"] * 3
    first, second = (ensemble.predict(prepared, Settings(), complete=True) for _ in range(2))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert passes == [GPU, GPU, GPU, CPU, GPU]


def test_what_cannot_be_brought_to_the_gpu_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    images = brain_images((12, 10, 9), np.random.default_rng(0))
    members = ((member_of(), random_network()),)
    expected = predicted(members, images, Mode.COARSE_TO_FINE)
    move, asked = ensembles.inputs_on, list[torch.device]()

    def moved(device: torch.device, *given: Any) -> Inputs:
        asked.append(device)
        if device == GPU:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(device, *given)

    monkeypatch.setattr(ensembles, "inputs_on", moved)
    found = found_by(members, images, Mode.COARSE_TO_FINE, device=GPU)
    np.testing.assert_array_equal(found.probabilities, expected)
    assert asked == [GPU, GPU, CPU], "beside others, alone, elsewhere"
    assert ["sums were kept on the CPU" in line for line in found.notes] == [True]


def test_a_case_that_is_alone_has_the_memory_of_other_tasks_too(attempts: list[str]) -> None:
    cropped = cropped_of(brain_images((12, 10, 9), np.random.default_rng(0)))
    one, other, elsewhere = (
        GpuEnsemble(GLI, [(member_of(), random_network())], {}, device, torch_engine)
        for device in (GPU, GPU, torch.device("cpu:1"))
    )
    for ensemble in (other, elsewhere):
        ensemble.predict(ensemble.prepare(cropped), Settings())
    attempts.append("CUDA out of memory")
    one.predict(one.prepare(cropped), Settings())
    assert [len(ensemble._engines) for ensemble in (one, other, elsewhere)] == [1, 0, 1]


def test_case_that_fits_nowhere_fails(attempts: list[str]) -> None:
    attempts += ["CUDA out of memory"] * 4
    images = brain_images((12, 10, 9), np.random.default_rng(0))
    with pytest.raises(torch.OutOfMemoryError):
        predicted(((member_of(), random_network()),), images, Mode.COARSE_TO_FINE, device=GPU)


FAULT = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


@pytest.mark.parametrize(
    "fault", [FAULT, "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "finalized INTERNAL ASSERT FAILED at x.cpp"]
)
def test_where_the_gpu_fails_the_cpu_goes_on(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA repeats such a fault for the rest of the process: without it every later case would be lost."""
    members = ((member_of(), random_network()),)
    images = brain_images((12, 10, 9), np.random.default_rng(0))
    expected = predicted(members, images, Mode.COARSE_TO_FINE)
    compute = TorchEngine._logits

    def fail(engine: TorchEngine, padded: Tensor) -> Tensor:
        if engine.device == GPU:
            raise RuntimeError(fault)
        return compute(engine, padded)

    monkeypatch.setattr(TorchEngine, "_logits", fail)
    line = fault.partition("\n")[0]
    for _ in range(2):
        found = found_by(members, images, Mode.COARSE_TO_FINE, device=GPU)
        np.testing.assert_array_equal(found.probabilities, expected)
        assert found.notes == (f"the GPU failed ({line}): it was computed on the CPU",)


def test_another_error_is_taken_neither_for_too_little_memory_nor_for_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(_: UNet, x: Tensor) -> Tensor:
        calls.append(x)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(UNet, "forward", fail)
    images = brain_images((12, 10, 9), np.random.default_rng(0))
    with pytest.raises(RuntimeError, match="mat1"):
        predicted(((member_of(), random_network()),), images, Mode.COARSE_TO_FINE, device=GPU)
    assert len(calls) == 1


class OnGpu(Tensor):
    """A tensor that says so."""

    device = torch.device("cuda")


class Computing:
    """Stands for what a GPU has been given to compute: done when another thread has had its turn."""

    def __init__(self, turn: Turn, done: threading.Event) -> None:
        self.turn, self.done = turn, done

    def __call__(self, **_: object) -> "Computing":
        return self

    def record(self, stream: str) -> None:
        assert stream == "main"

    def synchronize(self) -> None:
        assert self.done.wait(60)


@pytest.mark.parametrize("fails", [False, True])
def test_another_thread_has_its_turn_while_one_waits_for_the_gpu(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    turn, done, order = Turn(), threading.Event(), list[str]()

    def on_host(x: Tensor) -> str:
        if fails:
            raise RuntimeError("CUDA error")
        return "what was computed"

    monkeypatch.setattr(torch.cuda, "Event", Computing(turn, done))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "main")
    monkeypatch.setattr(turns, "beside", lambda _: nullcontext())
    monkeypatch.setattr(turns, "on_host", on_host)

    def next_one() -> None:
        with turn.lock:
            order.append("second")
            done.set()

    def seen(answer: object) -> str:
        assert answer == "what was computed"
        assert turn.lock.acquire(timeout=10), "it is anybody's turn"
        turn.lock.release()
        return "what was seen"

    with ThreadPoolExecutor(1) as other:
        try:
            with turn.lock:
                order.append("first")
                following = other.submit(next_one)
                assert turn.look(torch.zeros(1).as_subclass(OnGpu), seen) == "what was seen"
                order.append("first again")
                assert not turn.lock.acquire(blocking=False)
        except RuntimeError:
            assert fails
        following.result(60)
    assert order == ["first", "second", "first again"][: 2 if fails else 3]
    assert turn.lock.acquire(blocking=False)


def test_a_case_that_wants_a_device_alone_waits_for_the_others_and_they_for_it() -> None:
    turn, order, leave = Turn(), list[str](), threading.Event()

    def enter(way: AbstractContextManager[None], name: str) -> None:
        with way:
            order.append(name)
            assert leave.wait(60)

    with ThreadPoolExecutor(2) as threads:
        with turn.shared(), turn.shared():
            threads.submit(enter, turn.alone(), "alone")
            while not turn._taken:
                time.sleep(0.001)
            threads.submit(enter, turn.shared(), "later")
            time.sleep(0.05)
            assert not order
        while not order:
            time.sleep(0.001)
        time.sleep(0.05)
        assert order == ["alone"]
        leave.set()
    assert order == ["alone", "later"]


def test_what_lies_on_the_host_is_looked_at_at_once() -> None:
    x, turn = torch.zeros(1), Turn()

    def seen(answer: Tensor) -> Tensor:
        assert turn.lock.locked()
        return answer

    with turn.lock:
        assert turn.look(x, seen) is x
    assert Asked(x).answer() is x


def test_others_have_their_turn_while_a_case_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    held, answer = list[bool](), Asked.answer

    def watched(asked: Asked) -> Tensor:
        held.append(turn_at(GPU).lock.locked())
        return answer(asked)

    monkeypatch.setattr(Asked, "answer", watched)
    images = brain_images((12, 10, 9), np.random.default_rng(0))
    predicted(((member_of(), random_network()),), images, Mode.COARSE_TO_FINE, device=GPU)
    assert held == [False]


def test_one_that_is_interrupted_before_it_is_alone_bars_nobody() -> None:
    turn = Turn()

    def interrupted(done: Callable[[], bool]) -> None:
        if not done():
            raise KeyboardInterrupt

    with turn.shared():
        turn._changed.wait_for = interrupted  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyboardInterrupt), turn.alone():
            pytest.fail("another case is there")
        assert not turn._taken
        with turn.shared():
            pass


def test_all_threads_that_are_the_first_have_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly() -> Turn:
        time.sleep(0.05)  # so that all ask before one is there
        return Turn()

    monkeypatch.setattr(turns, "Turn", slowly)
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(turn_at, [torch.device("meta")] * 8))) == 1


class Elsewhere(OnGpu):
    """One whose device has no more room."""

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


@pytest.mark.parametrize("complete", [False, True])
def test_labels_for_which_a_gpu_has_no_room_are_made_on_the_host(
    complete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities = torch.rand((3, 6, 5, 4), generator=torch.Generator().manual_seed(0))
    expected = found_in(probabilities, GLI, complete)

    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ensembles, "labels_from_probabilities", full)
    monkeypatch.setattr(ensembles, "beside", lambda _: nullcontext())
    found = fetched(probabilities.as_subclass(Elsewhere), GLI, complete)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    monkeypatch.setattr(ensembles, "found_in", lambda *_: torch.empty(2**60))
    with pytest.raises(RuntimeError, match="allocate"):
        fetched(probabilities, GLI, complete)


OPENVINO = """Exception from src/inference/src/cpp/core.cpp:117:
Check 'ptr' failed at src/plugins/intel_cpu/src/cpu_memory.cpp:257:
Failed to allocate 3355443200 bytes of memory"""


def test_memory_errors_of_the_host_are_known_by_what_torch_and_numpy_say() -> None:
    for allocate in (lambda: torch.empty(2**60), lambda: np.empty(2**58)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
    for text in ("GET was unable to find an engine to execute this computation", "CUDNN_STATUS_ALLOC_FAILED", OPENVINO):
        assert is_out_of_memory(RuntimeError(f"cuDNN error: {text}"))
    assert not is_out_of_memory(RuntimeError("CUDA error: no kernel image is available"))
    assert not is_out_of_memory(ValueError("out of memory"))
