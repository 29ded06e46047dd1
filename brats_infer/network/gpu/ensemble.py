"""An ensemble on a GPU: several cases at a time, and the CPU if the GPU is too small or fails."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.errors import is_out_of_memory, printable
from brats_infer.image.crop import Cropped
from brats_infer.image.voxels import Box, bounding_box
from brats_infer.labelling.label_map import Found, found_in, labels_from_probabilities
from brats_infer.network.devices import CPU
from brats_infer.network.ensemble import EngineOf, Ensemble, Inputs
from brats_infer.network.gpu.faults import is_gpu_fault
from brats_infer.network.gpu.half_engine import full_precision
from brats_infer.network.gpu.inputs import RAW, inputs_on, raw_images
from brats_infer.network.gpu.memory import beside, host_memory, on_host, release_memory
from brats_infer.network.gpu.turns import Asked, turn_at
from brats_infer.network.windows import POSSIBLE, Engine, closer_box
from brats_infer.settings import Settings
from brats_infer.tasks import Task
from model.config import Member, UNetConfig
from model.unet import UNet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """The devices of a case's networks and sums."""

    networks: torch.device
    sums: torch.device
    note: str = ""
    """A remark for the user."""


def placements(device: torch.device) -> list[Placement]:
    """The placements to try for a case, each with less GPU memory than the previous placement."""
    return [
        Placement(device, device),
        Placement(device, CPU, note="too large for the GPU's memory: its sums were kept on the CPU"),
        Placement(CPU, CPU, note="too large for the GPU's memory: it was computed on the CPU"),
    ]


class GivenUp(BaseException):
    """Raised in a computing thread: the run ends, and nobody waits for the case."""


class GpuEnsemble(Ensemble):
    """The members of one task on a GPU. Several threads may predict at a time, each its own case."""

    def __init__(
        self,
        task: Task,
        networks: Sequence[tuple[Member, UNet]],
        references: Mapping[str, NDArray[np.float32]],
        device: torch.device,
        make_engine: Callable[[UNet, torch.device], Engine],
    ) -> None:
        super().__init__(task, tuple(member for member, _ in networks), references, ())
        self.networks = [network for _, network in networks]
        self.device = device
        self._make_engine = make_engine
        self._engines: dict[tuple[int, torch.device], Engine] = {}
        self._stopped = Event()
        with _register:
            _living.add(self)

    def prepare(self, cropped: Cropped) -> Inputs:
        """Normalises a case, or leaves that to the GPU."""
        raw = raw_images(cropped, self.members, self.device)
        return super().prepare(cropped) if raw is None else {RAW: raw}

    def stop(self) -> None:
        """Cancels the cases in other threads, before their next pass."""
        self._stopped.set()

    @torch.inference_mode()
    def predict(self, inputs: Inputs, settings: Settings, complete: bool = False) -> Found:
        """As on the CPU.

        If GPU memory runs out beside other cases, the case gets the GPU alone. If it runs out again, the sums move to
        the CPU, then the networks too. If the GPU fails, the whole case moves to the CPU. A case that overflows fp16
        is computed again in float32. Notes report each move.
        """
        try:
            return self._found(inputs, settings, complete)
        except RuntimeError as error:
            if not is_gpu_fault(error):
                raise
            log.debug("the GPU failed", exc_info=error)
        return self._found(inputs, settings, complete)  # if the fault persists, networks go to the CPU

    def _found(self, inputs: Inputs, settings: Settings, complete: bool) -> Found:
        probabilities, note = self._computed(inputs, settings)
        return replace(fetched(probabilities, self.task, complete), notes=(note,) if note else ())

    def _computed(self, inputs: Inputs, settings: Settings) -> tuple[Tensor, str]:
        """(probabilities (R, X, Y, Z) on the device of the sums, remark for the user)."""
        turn = turn_at(self.device)
        places: Sequence[Placement] = placements(self.device)
        try:
            with turn.shared():
                return self._computed_at(places[0], inputs, settings)
        except (RuntimeError, MemoryError) as error:
            places = _left_behind(error, places)
        with turn.alone():
            while True:
                if places[0].networks != CPU:
                    _free_engines(self.device)
                    release_memory()  # outside the handler: the error keeps tensors alive
                try:
                    return self._computed_at(places[0], inputs, settings)
                except (RuntimeError, MemoryError) as error:
                    places = _left_behind(error, places[1:])

    def _computed_at(self, place: Placement, inputs: Inputs, settings: Settings) -> tuple[Tensor, str]:
        self._check()
        with beside(place.sums):
            there = inputs_on(place.sums, inputs, self.members)
        turn = turn_at(self.device)

        def engine_of(index: int) -> Engine:
            return Checked(self._engine(index, place.networks), self._check)

        def exact_engine_of(index: int) -> Engine:
            return Checked(full_precision(self._engine(index, place.networks)), self._check)

        def computed(engine_of: EngineOf) -> tuple[Tensor, bool]:
            """(mean, whether fp16 has overflowed to NaN). The inputs must stay until that is known."""
            with turn.lock:
                found = self.mean(engine_of, there, settings)
                asked = Asked(found.sum().isnan()) if place.networks != CPU else None
            return found, asked is not None and bool(asked.answer())

        found, overflown = computed(engine_of)
        if overflown:
            found, _ = computed(exact_engine_of)
        return found, place.note

    def _memory(self, shape: tuple[int, ...]) -> Tensor:
        return host_memory(shape, torch.float32, self.device)

    def _closer_box(self, members: Sequence[int], anything: Tensor, dust: int) -> Box:
        """As on the CPU; other threads have their turn while this thread waits."""
        step = self._box_step(members)
        look = turn_at(self.device).look
        return look(anything >= POSSIBLE, lambda possible: closer_box(possible.numpy(), step, dust))

    def _engine(self, index: int, device: torch.device) -> Engine:
        """A member's engine on a device, created on first use."""
        if (index, device) not in self._engines:
            self._engines[index, device] = self._make_engine(self.networks[index], device)
        return self._engines[index, device]

    def _check(self) -> None:
        if self._stopped.is_set():
            raise GivenUp


_living: WeakSet[GpuEnsemble] = WeakSet()
_register = Lock()


def _free_engines(device: torch.device) -> None:
    """Frees the engines of all tasks on a GPU, and the memory of their CUDA graphs."""
    with _register:
        ensembles = [ensemble for ensemble in _living if ensemble.device == device]
    for ensemble in ensembles:
        ensemble._engines.clear()


@dataclass(frozen=True)
class Checked:
    """An engine that calls `check` before each pass."""

    engine: Engine
    check: Callable[[], None]

    @property
    def config(self) -> UNetConfig:
        return self.engine.config

    def __call__(self, batch: Tensor) -> Tensor:
        self.check()
        return self.engine(batch)


def fetched(probabilities: Tensor, task: Task, complete: bool) -> Found:
    """As `found_in`, with thresholds on the probabilities' device, in parallel with other cases on the GPU.

    On the host if the GPU has no memory left. Raises ValueError on NaN.
    """
    if probabilities.device == CPU:
        return found_in(probabilities, task, complete)
    try:
        with beside(probabilities.device):
            labels = on_host(labels_from_probabilities(probabilities, task, probabilities.shape[1])).numpy()
            if complete:
                return Found(labels, on_host(probabilities.contiguous()).numpy(), complete)
            kept = np.zeros(probabilities.shape, np.float32)
            box = bounding_box(labels > 0)
            kept[:, *box] = on_host(probabilities[:, *box]).numpy()
            return Found(labels, kept, complete)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return found_in(probabilities.cpu(), task, complete)


def _left_behind(error: Exception, places: Sequence[Placement]) -> Sequence[Placement]:
    """The placements still to try after an error. Raises the error if none can avoid it."""
    if not places:
        raise error
    if is_gpu_fault(error):
        log.debug("the GPU failed", exc_info=error)
        reason = printable(str(error).partition("\n")[0])
        return [replace(places[-1], note=f"the GPU failed ({reason}): it was computed on the CPU")]
    if not is_out_of_memory(error):
        raise error
    return places
