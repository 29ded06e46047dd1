"""Loads a run's networks: a working device, its fastest engine, the members of a task."""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.errors import UsageError, WeightsError
from brats_infer.image.normalise import Normalisation
from brats_infer.network.devices import CPU
from brats_infer.network.engines import TorchEngine
from brats_infer.network.ensemble import Ensemble, Lanes
from brats_infer.network.windows import Engine
from brats_infer.tasks import Rule, Task
from model.checkpoint import CheckpointError, load_member, load_reference, read_manifest
from model.config import Member
from model.unet import UNet

log = logging.getLogger(__name__)

SHIPPED_WEIGHTS = Path(__file__).parents[2] / "weights"
_processes: set[int] = set()
"""IDs of this process and of its parents that have loaded networks."""


def refuse_fork() -> None:
    """Raises UsageError in a process that was forked after its parent had loaded networks.

    The child has copies of the locks of torch and OpenVINO, but not their threads: it would crash or wait for ever.
    """
    if _processes and os.getpid() not in _processes:
        raise UsageError(
            "this process was forked from one that has loaded networks, and cannot compute: "
            'use the start method "spawn", multiprocessing.get_context("spawn")'
        )


def pick_device(name: str) -> torch.device:
    """auto|cpu|cuda|cuda:N -> a tested device. If no GPU works, `auto` warns and takes the CPU.

    If torchrun starts several processes on a machine, each takes its own GPU.
    Raises UsageError if a requested CUDA device cannot be used, or as `refuse_fork` does.
    """
    refuse_fork()
    known = re.fullmatch(r"auto|cpu|cuda(?::(0|[1-9]\d*))?", name, re.ASCII)
    if not known:
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return CPU
    from brats_infer.network.gpu.faults import fault_of, own_gpu

    index = int(known[1]) if known[1] else own_gpu()
    fault = fault_of(index)
    if fault and name != "auto":
        raise UsageError(f"--device {name}: {fault}: choose --device auto or cpu")
    if fault:
        log.warning("warning: %s: the CPU is used, which takes longer (--device cpu if that is meant)", fault)
        return CPU
    return torch.device("cuda", index)


MakeEngine = Callable[[UNet, torch.device], Engine]


def torch_engine(network: UNet, device: torch.device) -> Engine:
    """The torch engine of a network."""
    if device == CPU:
        return TorchEngine(network)
    from brats_infer.network.gpu.half_engine import half_engine

    return half_engine(network, device)


def fastest_engine(network: UNet, device: torch.device) -> Engine:
    """OpenVINO on the CPU if it is installed and works, else torch."""
    if engine_name(device) == "OpenVINO":
        from brats_infer.network.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(network)
    return torch_engine(network, device)


def engine_name(device: torch.device) -> str:
    """The name of the device's fastest engine."""
    return "OpenVINO" if device == CPU and openvino_works() else "torch"


@cache
def openvino_works() -> bool:
    """Whether OpenVINO can be imported. Warns if it is installed but fails."""
    if find_spec("openvino") is None:
        return False
    try:
        import brats_infer.network.openvino_engine  # noqa: F401 - to see whether it loads
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("warning: OpenVINO is installed but does not load (%s): torch is used, which is slower", error)
        return False
    return True


def ensemble_of(
    task: Task,
    networks: Sequence[tuple[Member, UNet]],
    device: torch.device,
    references: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
    make_engine: MakeEngine = fastest_engine,
) -> Ensemble:
    """The ensemble of trained networks on a device."""
    if device != CPU:
        from brats_infer.network.gpu.ensemble import GpuEnsemble

        return GpuEnsemble(task, networks, references, device, make_engine)
    engines = [make_engine(network, device) for _, network in networks]
    return Ensemble(task, tuple(member for member, _ in networks), references, engines)


def working_on(device: torch.device) -> AbstractContextManager[Lanes]:
    """A context for a run on the device; it gives the numbers of cases in progress at a time."""
    if device == CPU:
        return nullcontext(Lanes())
    from brats_infer.network.gpu.lanes import working

    return working()


def tasks_with_member(folder: Path) -> set[str]:
    """The names of the tasks that a weights folder has members for. Raises WeightsError."""
    try:
        return {member.task for member in read_manifest(folder)}
    except CheckpointError as error:
        raise WeightsError(str(error)) from error


def without_member(folder: Path, task: Task) -> str:
    """Says in one line that the folder has no member for a task, and how to get one."""
    return (
        f"{folder}: lists no member for the task {task.name}: give --weights with one, "
        f"as `brats-opt train --task {task.name} --publish` or `brats-opt import` makes it"
    )


def load_ensemble(folder: Path, task: Task, device: torch.device) -> Ensemble:
    """Loads and verifies a task's members. Raises WeightsError, and UsageError as `refuse_fork` does."""
    refuse_fork()
    try:
        members = [member for member in read_manifest(folder) if member.task == task.name]
        if not members:
            raise WeightsError(without_member(folder, task))
        for member in members:
            if member.normalisation not in set(Normalisation):
                raise WeightsError(
                    f"{folder}: {member.file} asks for the unknown normalisation {member.normalisation!r}: "
                    "update brats-opt"
                )
            if member.source and member.source.rule not in set(Rule):
                raise WeightsError(
                    f"{folder}: {member.file} asks for the unknown rule {member.source.rule!r}: update brats-opt"
                )
            if (member.config.modalities, member.config.regions) != (len(task.modalities), len(task.regions)):
                raise WeightsError(
                    f"{folder}: {member.file} has not the channels of the task {task.name}: choose other weights"
                )
            if member.config.disjoint and not task.is_nested:
                raise WeightsError(
                    f"{folder}: {member.file} predicts disjoint labels, but regions of {task.name} are not nested: "
                    "choose other weights"
                )
        networks = [(member, load_member(folder, member)) for member in members]
        matched = [member for member in members if member.normalisation == Normalisation.HISTOGRAM]
        references = {member.file: load_reference(folder, member) for member in matched}
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    _processes.add(os.getpid())
    return ensemble_of(task, networks, device, references)
