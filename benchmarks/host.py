"""What a case costs beside its networks, and what it saves that the sizes compiled for them are kept, on the CPU.

    python benchmarks/host.py CASES [--task gli] [--weights weights] [--mode coarse-to-fine] [--rounds 3]

CASES is an input folder of `brats-opt`. Each round takes every case through its stages, one after the other and not one
beside the other as in a run: once with an engine that keeps sizes, once with one that keeps the last alone, in turns.
Printed are medians over cases and rounds but the first one: of each stage the time of all cores together and that on
the clock, without that of the networks; then the networks' own, which is that of compiling too, for both engines.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor

from brats_infer.files.cases import Case, find_cases
from brats_infer.network import openvino_engine
from brats_infer.network.devices import CPU, limit_threads
from brats_infer.network.engines import Engine, fastest_engine
from brats_infer.network.ensemble import SHIPPED_WEIGHTS, Ensemble, load_ensemble
from brats_infer.run.case import finish_case, predict_case, read_case
from brats_infer.run.events import Watcher
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from model.unet import UNet, UNetConfig

KEPT = {"sizes kept": 2 * openvino_engine.KEPT, "the last size": 1}  # the engines of both ways share it
T = TypeVar("T")


@dataclass
class Clock:
    """Seconds of all cores, and on the clock."""

    cores: float = 0.0
    wall: float = 0.0

    def time(self, work: Callable[[], T]) -> T:
        cores, wall = time.process_time(), time.perf_counter()
        done = work()
        self.cores += time.process_time() - cores
        self.wall += time.perf_counter() - wall
        return done


@dataclass
class Timed:
    """An engine, and a clock for its work."""

    engine: Engine
    clock: Clock

    @property
    def config(self) -> UNetConfig:
        return self.engine.config

    def __call__(self, batch: Tensor) -> Tensor:
        return self.clock.time(lambda: self.engine(batch))


@dataclass
class Way:
    """The stages of a case with one kind of engine."""

    ensemble: Ensemble
    networks: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        def engine(network: UNet, device: torch.device) -> Engine:
            return Timed(fastest_engine(network, device), self.networks)

        self.ensemble = replace(self.ensemble, make_engine=engine, _engines={})
        for index in range(len(self.ensemble.members)):
            self.ensemble._engine(index, CPU)

    def run(self, case: Case, output: Path, settings: Settings) -> dict[str, Clock]:
        """{stage: its clock}, that of the networks taken off."""
        assert case.task
        ensembles, watcher = {case.task.name: self.ensemble}, Watcher()
        clocks: dict[str, Clock] = defaultdict(Clock)
        self.networks.cores = self.networks.wall = 0.0
        underway = clocks["read"].time(lambda: read_case(case, ensembles, output, settings, watcher))
        underway = clocks["predict"].time(lambda: predict_case(underway, ensembles, output, settings, watcher))
        clocks["finish"].time(lambda: finish_case(underway, output, settings, watcher))
        clocks["predict"].cores -= self.networks.cores
        clocks["predict"].wall -= self.networks.wall
        return {**clocks, "networks": replace(self.networks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--task", default="gli")
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--mode", type=Mode, default=Mode.COARSE_TO_FINE, choices=list(Mode))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    limit_threads()
    cases = find_cases(given.cases, given.task)
    ways = {name: Way(load_ensemble(given.weights, TASKS[given.task], CPU)) for name in KEPT}
    found: dict[tuple[str, str], list[Clock]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as output:
        for number in range(given.rounds + 1):
            for case in cases:
                for name in list(ways) if number % 2 else reversed(ways):
                    openvino_engine.KEPT = KEPT[name]
                    for stage, clock in ways[name].run(case, Path(output), Settings(mode=given.mode)).items():
                        if number:
                            found[stage, name].append(clock)
    print(f"{len(cases)} cases, {given.rounds} rounds, {torch.get_num_threads()} threads, {given.mode}; ms")
    for (stage, name), clocks in sorted(found.items()):
        cores, wall = (1000 * median(getattr(clock, which) for clock in clocks) for which in ("cores", "wall"))
        print(f"{stage:10} {name:14} {cores:6.0f} of all cores {wall:6.0f} on the clock", flush=True)


if __name__ == "__main__":
    main()
