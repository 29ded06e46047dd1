"""Ours as a contender of `inference.py`, whose docstring says how each is run, and what all contenders have."""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from brats_infer.cohort import segment_folder
from brats_infer.files.search.find import find_cases
from brats_infer.network.devices import DTYPES, precision
from brats_infer.network.engines import padded_shape
from brats_infer.network.loading import ensemble_of, fastest_engine, load_ensemble, pick_device
from brats_infer.network.windows import Engine
from brats_infer.pipeline import predict, read
from brats_infer.run.events import Events, Status
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from model.checkpoint import load_member
from model.config import UNetConfig
from model.unet import UNet

TASK = TASKS["gli"]
PRODUCT_SIDE, PRODUCTS = 2048, 10


@dataclass(frozen=True)
class Job:
    """What a process is to do."""

    contender: str
    input: Path
    """The folder of cases, all of them copies of one."""
    output: Path
    """The folder of label maps, which exists."""
    weights: Path
    """A weights folder with one member."""
    device: str
    mode: str = Mode.SLIDING_WINDOW.value
    flips: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        return cls(**{**values, **{name: Path(values[name]) for name in ("input", "output", "weights")}})


@dataclass(frozen=True)
class Answer:
    """What one run took; seconds are those of all cases together."""

    seconds: float
    """Read to written, or of the forward passes alone."""
    whole: float = 0.0
    """Of ours: what came before the first case too."""
    steady: float = 0.0
    """Of ours, of several cases: of one, between the ends of the first and the last of their middle half."""
    stages: dict[str, float] = field(default_factory=dict)
    """Of ours: the sum of each stage's seconds."""
    passes: int = 0
    """Of the floor: how often the network was called for one case."""
    flop: float = 0.0
    """Of the floor: what the convolutions of these passes multiply and add."""
    product: float = 0.0
    """Of the floor: FLOP/s of a large matrix product."""
    gpu_mib: float = 0.0
    """The most that torch has held."""


class Contender(Protocol):
    """One way from cases to label maps."""

    def run(self) -> Answer: ...


class Ours:
    """`segment_folder`; only the first run, which is not timed, keeps every component: its label maps are compared."""

    def __init__(self, job: Job) -> None:
        self.job, self.output = job, job.output
        self.settings = Settings(mode=Mode(job.mode), flips=job.flips, dust=0, component_probability=0)

    def run(self) -> Answer:
        job, marks = self.job, [time.perf_counter()]
        results = segment_folder(
            job.input,
            self.output,
            task=TASK.name,
            weights=job.weights,
            device=job.device,
            settings=self.settings,
            events=Events(
                start=lambda _: marks.append(time.perf_counter()), result=lambda _: marks.append(time.perf_counter())
            ),
        )
        if bad := [result.message for result in results if result.status is not Status.WRITTEN]:
            raise SystemExit(bad[0])
        self.output = job.output.with_name(f"{job.output.name}-cleaned")
        self.settings = Settings(mode=Mode(job.mode), flips=job.flips)
        stages = {stage: sum(result.seconds[stage] for result in results) for stage in results[0].seconds}
        begin, start, *ends = marks
        quarter = len(ends) // 4
        middle = ends[quarter : len(ends) - quarter]
        steady = (middle[-1] - middle[0]) / max(1, len(middle) - 1)
        return Answer(ends[-1] - start, ends[-1] - begin, steady, stages)


@dataclass(frozen=True)
class Recorder:
    """An engine that computes nothing, and keeps what it is given."""

    network: UNet
    batches: list[Tensor] = field(default_factory=list)

    @property
    def config(self) -> UNetConfig:
        return self.network.config

    def __call__(self, batch: Tensor) -> Tensor:
        self.batches.append(batch)
        return torch.zeros(len(batch), self.config.regions, *batch.shape[2:], device=batch.device)


class Floor:
    """Our engine on the batches that it gets for the first case, once for every case, and nothing else."""

    def __init__(self, job: Job) -> None:
        device, cases = pick_device(job.device), find_cases(job.input, TASK.name)
        recorders: list[Recorder] = []

        def record(network: UNet, _: torch.device) -> Engine:
            recorders.append(Recorder(network))
            return recorders[-1]

        loaded = load_ensemble(job.weights, TASK, device)
        networks = [(member, load_member(job.weights, member)) for member in loaded.members]
        ensemble = ensemble_of(TASK, networks, device, loaded.references, record)
        predict(read(cases[0], ensemble), ensemble, Settings(mode=Mode(job.mode), flips=job.flips))
        engines = [fastest_engine(recorder.network, device) for recorder in recorders]
        self.device, self.cases = device, len(cases)
        self.passes = [
            (engine, batch) for engine, recorder in zip(engines, recorders, strict=True) for batch in recorder.batches
        ]
        self.flop = sum(flop_of(recorder.network, batch) for recorder in recorders for batch in recorder.batches)
        self.product = product_of(device)

    @torch.inference_mode()
    def run(self) -> Answer:
        began = time.perf_counter()
        for _ in range(self.cases):
            for engine, batch in self.passes:
                engine(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return Answer(
            time.perf_counter() - began, passes=len(self.passes), flop=self.flop * self.cases, product=self.product
        )


@torch.inference_mode()
def flop_of(network: UNet, batch: Tensor) -> int:
    """Of one forward pass, counted by torch on tensors without content."""
    shape = (*batch.shape[:2], *padded_shape(batch.shape[2:], network.config))
    with FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


@torch.inference_mode()
def product_of(device: torch.device) -> float:
    """FLOP/s of torch's product of two square matrices in the device's precision: the best of some."""
    sides = torch.randn((2, PRODUCT_SIDE, PRODUCT_SIDE), device=device).to(DTYPES[precision(device)])
    seconds = []
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        (sides[0] @ sides[1])[0, 0].item()  # waits for a GPU
        seconds.append(time.perf_counter() - began)
    return 2 * PRODUCT_SIDE**3 / min(seconds)


OURS: dict[str, Callable[[Job], Contender]] = {"ours": Ours, "floor": Floor}
