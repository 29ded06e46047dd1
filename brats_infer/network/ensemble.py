"""The ensemble: a task's members and their engines -> the mean of their probabilities."""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from weakref import WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.errors import WeightsError, printable
from brats_infer.image.crop import Cropped
from brats_infer.image.normalise import Normalisation
from brats_infer.image.voxels import EVERYTHING, Box
from brats_infer.network.devices import (
    CPU,
    Placement,
    beside,
    is_gpu_fault,
    is_out_of_memory,
    placements,
    release_memory,
)
from brats_infer.network.engines import Engine, exact, fastest_engine
from brats_infer.network.gpu.turns import Asked, turn_at
from brats_infer.network.inputs import Key, Prepared, inputs_on, key_of, prepare
from brats_infer.network.windows import closer_box, predict_member
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import MODALITIES, Task
from model.checkpoint import CheckpointError, Member, load_member, load_reference, read_manifest
from model.unet import UNet, UNetConfig

log = logging.getLogger(__name__)

SHIPPED_WEIGHTS = Path(__file__).parents[2] / "weights"
MakeEngine = Callable[[UNet, torch.device], Engine]
Check = Callable[[], None]
EngineOf = Callable[[int], Engine]


def _nothing() -> None:
    """What is called where nobody may want a case to be given up."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The members of one task, and the device that is meant for them; `predict` brings them there."""

    members: tuple[tuple[Member, UNet], ...]
    device: torch.device
    references: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """{file of a member that is trained on matched histograms: its reference (4, N)}"""
    make_engine: MakeEngine = fastest_engine
    _engines: dict[tuple[int, torch.device], Engine] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        with _register:
            _living.add(self)

    @property
    def _entries(self) -> list[Member]:
        return [member for member, _ in self.members]

    def prepare(self, cropped: Cropped) -> Prepared:
        """A case as its members want it."""
        return prepare(cropped, self._entries, self.references, self.device)

    @torch.inference_mode()
    def predict(
        self,
        prepared: Prepared,
        settings: Settings,
        warn: Callable[[str], None] = log.warning,
        check: Check = _nothing,
    ) -> Tensor:
        """Region probabilities (R, X, Y, Z) of a case, also outside its brain: the mean of the members' sigmoids.

        Of the settings, mode, flips and dust count. In `coarse-to-fine`, members on finer grids see only what those on
        coarser ones hold possible. The probabilities lie on the device, computed. Where a GPU is too small for it
        beside other cases, it has the GPU alone; then the sums move to the CPU, then the networks too; both where the
        GPU fails. What overflows fp16 is computed again in float32. `warn` is told of moves. Of several threads each
        gives the device its case while it computes another one's. `check` is called before each pass, and may raise.
        Of an ensemble for the CPU, where one thread computes, the next answer may be written over this one.
        """
        turn = turn_at(self.device)
        places = placements(self.device)
        try:
            with turn.shared():
                return self._predict_on(places[0], prepared, settings, warn, check)
        except (RuntimeError, MemoryError) as error:
            if self.device == CPU:
                raise
            left = _left_behind(error, places)
        with turn.alone():
            while True:
                if left[0].networks != CPU:
                    for ensemble in _ensembles_at(self.device):
                        ensemble._engines.clear()  # and the memory of what they have recorded
                    release_memory()  # not below: the error holds on to what it was raised over
                try:
                    found = self._predict_on(left[0], prepared, settings, warn, check)
                    # on the CPU the next case is written over it while this one is looked at
                    return found.clone() if found.device == CPU else found
                except (RuntimeError, MemoryError) as error:
                    left = _left_behind(error, left[1:])

    def _predict_on(
        self, place: Placement, prepared: Prepared, settings: Settings, warn: Callable[[str], None], check: Check
    ) -> Tensor:
        check()
        with beside(place.sums):
            inputs = inputs_on(place.sums, prepared, self._entries)
        turn = turn_at(self.device)

        def engine_of(index: int) -> Engine:
            return Checked(self._engine(index, place.networks), check)

        def exact_engine_of(index: int) -> Engine:
            return Checked(exact(self._engine(index, place.networks)), check)

        def computed(engine_of: EngineOf) -> tuple[Tensor, bool]:
            """And whether fp16 has made a NaN of it; until that is known, what it is computed from has to stay."""
            with turn.lock:
                found = self._mean(engine_of, inputs, settings)
                asked = Asked(found.sum().isnan()) if place.networks != CPU else None
            return found, asked is not None and bool(asked.answer())

        found, overflown = computed(engine_of)
        if overflown:
            found, _ = computed(exact_engine_of)
        if place.note:
            warn(place.note)
        return found

    def _mean(self, engine_of: EngineOf, inputs: dict[Key, Tensor], settings: Settings) -> Tensor:
        """Over all members, coarser grids first."""
        mean: Tensor | None = None
        done = 0
        for members in self._coarse_first():
            box = EVERYTHING
            if settings.mode == Mode.COARSE_TO_FINE and mean is not None:
                box = self._closer_box(members, mean, settings.dust)
            part = {key: x[:, *box] for key, x in inputs.items()}
            found = self._mean_of(members, engine_of, part, settings)
            done += len(members)
            if mean is None:
                mean = found
            else:
                mean[:, *box].lerp_(found, len(members) / done)
        if mean is None:
            raise ValueError("an ensemble without members")
        return mean

    def _mean_of(
        self, members: Sequence[int], engine_of: EngineOf, inputs: dict[Key, Tensor], settings: Settings
    ) -> Tensor:
        """Over some members of one grid."""
        total: Tensor | None = None
        for index in members:
            member = self.members[index][0]
            window = member.window if settings.mode == Mode.SLIDING_WINDOW else None
            found = predict_member(engine_of(index), inputs[key_of(member)], window, settings.flips)
            total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_(len(members)) if len(members) > 1 else total

    def _coarse_first(self) -> list[list[int]]:
        """The members of each grid, the coarsest grid first."""

        def spacing(index: int) -> int:
            return self.members[index][0].config.spacing

        in_order = sorted(range(len(self.members)), key=spacing, reverse=True)
        return [list(members) for _, members in itertools.groupby(in_order, spacing)]

    def _closer_box(self, members: Sequence[int], coarse: Tensor, dust: int) -> Box:
        """Where members look closer, by what those on coarser grids found."""
        configs = [self.members[index][0].config for index in members]
        step = max(config.multiple * config.spacing for config in configs)
        return closer_box(coarse[0], step, dust, turn_at(self.device).look)

    def _engine(self, index: int, device: torch.device) -> Engine:
        """A member's engine on a device, made when it is first needed."""
        if (index, device) not in self._engines:
            self._engines[index, device] = self.make_engine(self.members[index][1], device)
        return self._engines[index, device]


_living: WeakSet[Ensemble] = WeakSet()
_register = Lock()


def _ensembles_at(device: torch.device) -> list[Ensemble]:
    """Those of all tasks that are meant for a device."""
    with _register:
        return [ensemble for ensemble in _living if ensemble.device == device]


@dataclass(frozen=True)
class Checked:
    """An engine before each of whose passes something is looked at."""

    engine: Engine
    check: Check

    @property
    def config(self) -> UNetConfig:
        return self.engine.config

    def __call__(self, batch: Tensor) -> Tensor:
        self.check()
        return self.engine(batch)


def _left_behind(error: Exception, places: Sequence[Placement]) -> Sequence[Placement]:
    """Of the places where a case may be computed, those to try. Raises the error if it will come again."""
    if not places:
        raise error
    if is_gpu_fault(error):
        log.debug("the GPU failed", exc_info=error)
        reason = printable(str(error).partition("\n")[0])
        return [replace(places[-1], note=f"the GPU failed ({reason}): it was computed on the CPU")]
    if not is_out_of_memory(error):
        raise error
    return places


def load_ensemble(folder: Path, task: Task, device: torch.device) -> Ensemble:
    """Loads and verifies a task's members. Raises WeightsError."""
    try:
        members = [member for member in read_manifest(folder) if member.task == task.name]
        if not members:
            raise WeightsError(
                f"{folder}: lists no member for the task {task.name}: choose another --weights or --task"
            )
        for member in members:
            if member.normalisation not in set(Normalisation):
                raise WeightsError(
                    f"{folder}: {member.file} asks for the unknown normalisation {member.normalisation!r}: "
                    "update brats-opt"
                )
            if (member.config.modalities, member.config.regions) != (len(MODALITIES), len(task.regions)):
                raise WeightsError(
                    f"{folder}: {member.file} has not the channels of the task {task.name}: choose other weights"
                )
        networks = [(member, load_member(folder, member)) for member in members]
        matched = [member for member in members if member.normalisation == Normalisation.HISTOGRAM]
        references = {member.file: load_reference(folder, member) for member in matched}
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    return Ensemble(tuple(networks), device, references)
