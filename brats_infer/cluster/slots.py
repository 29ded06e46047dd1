"""The places of a cluster that workers can take."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brats_infer.errors import UsageError

CORES = 4  # of a worker without a GPU, where OMP_NUM_THREADS does not say
AT_ONCE = 3  # cases of a worker: one is read, one computed, one written
AT_ONCE_WITH_GPU = 8  # a GPU computes a case faster than threads read and write it


@dataclass(frozen=True)
class Slot:
    """The processors and GPUs that one worker asks the cluster for."""

    cpus: int
    gpus: int

    @property
    def cases(self) -> int:
        """How many cases its worker has at once."""
        return AT_ONCE_WITH_GPU if self.gpus else AT_ONCE


def find_slots(nodes: Sequence[Mapping[str, Any]], device: str) -> list[Slot]:
    """A slot for each GPU of the nodes (as `ray.nodes()`), or, without GPUs or for the CPU, for every `CORES` cores.

    Raises UsageError.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device}: Ray deals out the GPUs: choose auto, cpu or cuda with --ray")
    found = [node["Resources"] for node in nodes if node["Alive"]]
    sizes = [(int(resources.get("CPU", 0)), int(resources.get("GPU", 0))) for resources in found]
    if device != "cpu" and any(gpus for _, gpus in sizes):
        return [Slot(cpus // gpus, 1) for cpus, gpus in sizes for _ in range(gpus)]
    if device == "cuda":
        raise UsageError("--device cuda: the Ray cluster has no GPU: choose auto or cpu")
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(wanted) if wanted.isdecimal() and int(wanted) else CORES
    slots = [Slot(min(cpus, cores), 0) for cpus, _ in sizes if cpus for _ in range(max(1, cpus // cores))]
    if not slots:
        raise UsageError("--ray: the cluster offers no processor: start Ray with --num-cpus")
    return slots
