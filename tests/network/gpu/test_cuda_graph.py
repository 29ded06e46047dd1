"""When a size is recorded as a CUDA graph, and on a GPU, that it says what is recorded."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from brats_infer.network.devices import CPU
from brats_infer.network.gpu.cuda_graph import OFTEN, Function, Recorder, recorded
from brats_infer.network.gpu.half_engine import HalfEngine, in_half
from tests.small_networks import SMALL, random_network

SMALL_BATCH, OTHER_BATCH = torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 6)


class OnGpu(torch.Tensor):
    """A tensor that says so."""

    device = torch.device("cuda")


class Log:
    """Stands for a GPU: what is asked for, in order."""

    def __init__(self, works: bool = True) -> None:
        self.works, self.calls = works, list[str]()

    def record(self, function: Function, batch: Tensor) -> Function | None:
        self.calls.append("record")
        return self.replay if self.works else None

    def replay(self, batch: Tensor) -> Tensor:
        self.calls.append("replay")
        return batch

    def compute(self, batch: Tensor) -> Tensor:
        self.calls.append("compute")
        return batch


def test_a_size_that_comes_often_is_recorded_once() -> None:
    log = Log()
    recorder = Recorder(log.record)
    for _ in range(OFTEN + 2):
        assert torch.equal(recorder(log.compute, SMALL_BATCH), SMALL_BATCH)
    assert log.calls == ["compute"] * (OFTEN - 1) + ["record"] + ["replay"] * 3


def test_another_size_between_them_begins_anew() -> None:
    log = Log()
    recorder = Recorder(log.record)
    for batch in ([SMALL_BATCH] * OFTEN + [OTHER_BATCH]) * 2:
        recorder(log.compute, batch)
    assert log.calls == (["compute"] * (OFTEN - 1) + ["record", "replay", "compute"]) * 2


def test_eight_mirror_images_of_one_volume_are_not_recorded() -> None:
    log = Log()
    recorder = Recorder(log.record)
    for batch in ([SMALL_BATCH] * 8 + [OTHER_BATCH] * 8) * 3:
        recorder(log.compute, batch)
    assert "record" not in log.calls


def test_what_cannot_be_recorded_is_computed_and_not_tried_again() -> None:
    log = Log(works=False)
    recorder = Recorder(log.record)
    for _ in range(3 * OFTEN):
        recorder(log.compute, SMALL_BATCH)
    assert log.calls == ["compute"] * (OFTEN - 1) + ["record"] + ["compute"] * (2 * OFTEN + 1)


@dataclass(frozen=True)
class Properties:
    total_memory: int = 2000


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The most memory that was needed so far, of the 2000 bytes of a GPU."""
    most = [1000]
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: most[0])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties())
    return most


def test_nothing_is_recorded_on_the_cpu_nor_on_a_gpu_of_little_memory(
    needed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("recorded")

    monkeypatch.setattr("brats_infer.network.gpu.cuda_graph.Recording", never)
    assert recorded(lambda batch: batch, SMALL_BATCH) is None
    with pytest.raises(AssertionError, match="recorded"):  # else this test shows nothing
        recorded(lambda batch: batch, SMALL_BATCH.as_subclass(OnGpu))
    needed[0] += 1
    assert recorded(lambda batch: batch, SMALL_BATCH.as_subclass(OnGpu)) is None


def test_the_engine_of_a_gpu_lets_its_batches_be_recorded() -> None:
    log = Log()
    network = random_network()
    engine = HalfEngine(network, CPU, half=in_half(network), recorder=Recorder(log.record))
    batch = torch.randn(1, SMALL.in_channels, 8, 8, 8)
    answers = [engine(batch) for _ in range(OFTEN)]
    assert log.calls == ["record", "replay"]
    assert torch.equal(answers[0], answers[-2])
    assert torch.equal(answers[-1], batch), "what the recording says"


def test_brains_that_are_padded_to_one_size_are_recorded() -> None:
    log = Log()
    network = random_network()
    engine = HalfEngine(network, CPU, half=in_half(network), recorder=Recorder(log.record))
    sizes = [(8, 8 - i % 3, 5 + i % 4) for i in range(OFTEN)]
    answers = [engine(torch.randn(1, SMALL.in_channels, *size)) for size in sizes]
    assert log.calls == ["record", "replay"]
    assert [tuple(answer.shape[2:]) for answer in answers] == sizes


def test_what_lies_elsewhere_is_computed_and_not_recorded() -> None:
    """Where a GPU is too small for its sums, they and the windows are on the CPU, and so must the answers be."""
    log = Log()
    network, elsewhere = random_network(), torch.device("cpu:0")  # another device, to the engine
    engine = HalfEngine(network, elsewhere, half=in_half(network), recorder=Recorder(log.record))
    for _ in range(2 * OFTEN):
        engine(torch.zeros(1, SMALL.in_channels, 8, 8, 8))
    assert not log.calls


class Refused:
    """A CUDA graph that cannot be recorded."""

    def __init__(self, *_: object) -> None:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def test_a_gpu_that_refuses_to_record_computes(needed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[bool] = []
    monkeypatch.setattr("brats_infer.network.gpu.cuda_graph.Recording", Refused)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    assert recorded(lambda batch: batch, SMALL_BATCH.as_subclass(OnGpu)) is None
    assert freed == [True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_a_recording_says_what_the_engine_says() -> None:
    """Of two engines that share their graphs' memory, in turns."""
    device = torch.device("cuda", 0)
    networks = [random_network(seed=seed).to(device) for seed in range(2)]
    engines = [HalfEngine(network, device, half=in_half(network)) for network in networks]
    plain = [
        HalfEngine(network, device, half=in_half(network), recorder=Recorder(Log(False).record)) for network in networks
    ]
    for seed in range(OFTEN + 3):
        batch = torch.randn(1, SMALL.in_channels, 32, 32, 32, generator=torch.Generator().manual_seed(seed)).to(device)
        for engine, expected in zip(engines, plain, strict=True):
            assert torch.equal(engine(batch), expected(batch))
    assert all(engine.recorder._recording for engine in engines)
    held = torch.cuda.memory_reserved(device)
    for engine, expected in zip(engines, plain, strict=True):  # of another size
        assert torch.equal(engine(batch[..., :16]), expected(batch[..., :16]))
    assert torch.cuda.memory_reserved(device) < held, "what they were recorded in is given back"
