"""The ensemble: a task's members and their engines -> the mean of their probabilities."""

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.boxes import EVERYTHING, Box
from brats_infer.devices import (
    CPU,
    Placement,
    beside,
    is_gpu_fault,
    is_out_of_memory,
    pinned_memory,
    placements,
    turn_at,
)
from brats_infer.engines import Engine, exact, fastest_engine
from brats_infer.errors import WeightsError, printable
from brats_infer.normalise import Normalisation, normalise, zscores
from brats_infer.passes import closer_box, predict_member
from brats_infer.preprocess import Cropped
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import MODALITIES, Task
from model.checkpoint import CheckpointError, Member, load_member, load_reference, read_manifest
from model.unet import UNet

log = logging.getLogger(__name__)

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"
MakeEngine = Callable[[UNet, torch.device], Engine]
Key = tuple[str, bool, str]
FOREGROUND = 1  # of a key


@dataclass(frozen=True)
class Prepared:
    """A case as its members want it."""

    brain: NDArray[np.bool_]
    """(X, Y, Z)"""
    inputs: dict[Key, Tensor]
    """(C, X, Y, Z) float32 of each kind that there is among the members, on the host."""
    raw: Tensor | None = None
    """(4, X, Y, Z) in their place, where the device makes them: whole numbers."""


@dataclass(frozen=True)
class Ensemble:
    """The members of one task, and the device that is meant for them; `predict` brings them there."""

    members: tuple[tuple[Member, UNet], ...]
    device: torch.device
    references: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """{file of a member that is trained on matched histograms: its reference (4, N)}"""
    make_engine: MakeEngine = fastest_engine
    _engines: dict[tuple[int, torch.device], Engine] = field(default_factory=dict, repr=False)

    def prepare(self, cropped: Cropped) -> Prepared:
        """Normalises a case in each way that the members ask for, or leaves that to a GPU."""
        brain = cropped.brain
        if self.device != CPU and (raw := self._raw(cropped)) is not None:
            return Prepared(brain, {}, raw)
        inputs: dict[Key, Tensor] = {}
        for member, _ in self.members:
            if (key := _key(member)) not in inputs:
                reference = self.references.get(member.file)
                normalisation, foreground = Normalisation(member.normalisation), member.config.foreground
                x = self._input_memory((len(cropped.images) + foreground, *brain.shape), torch.float32)
                network_input(cropped.images, brain, normalisation, reference, foreground, out=x.numpy())
                inputs[key] = x
        return Prepared(brain, inputs)

    def _raw(self, cropped: Cropped) -> Tensor | None:
        """(4, X, Y, Z) in the order of files, where all members want z-scores of whole numbers of 16 bits at most."""
        types = [view.dtype for view in cropped.views]
        whole = all(one.kind in "iu" and one.itemsize <= 2 for one in types)
        if not whole or any(member.normalisation != Normalisation.ZSCORE for member, _ in self.members):
            return None
        x, y, z = cropped.brain.shape
        wide = np.result_type(np.int16, *types) != np.int16
        raw = self._input_memory((len(types), z, y, x), torch.int32 if wide else torch.int16).permute(0, 3, 2, 1)
        for target, view in zip(raw.numpy(), cropped.views, strict=True):
            target[:] = view
        return raw

    def _input_memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """From where the device copies it fast; else as numpy allocates it, in large pages."""
        memory = pinned_memory(shape, dtype) if self.device.type == "cuda" else None
        return torch.from_numpy(np.empty(shape, str(dtype).removeprefix("torch."))) if memory is None else memory

    def _inputs(self, prepared: Prepared, device: torch.device) -> dict[Key, Tensor]:
        """On a device.

        Copies are waited for: else CUDA would be asked again when the pinned memory is freed, and where the GPU has
        failed meanwhile that ends the process.
        """
        if prepared.raw is None:
            return {key: x.to(device) for key, x in prepared.inputs.items()}
        with_brain = zscores(prepared.raw.to(device))
        keys = {_key(member) for member, _ in self.members}
        return {key: with_brain if key[FOREGROUND] else with_brain[:-1] for key in keys}

    @torch.inference_mode()
    def predict(self, prepared: Prepared, settings: Settings, warn: Callable[[str], None] = log.warning) -> Tensor:
        """Region probabilities (R, X, Y, Z) of a case, also outside its brain: the mean of the members' sigmoids.

        Of the settings, mode, flips and dust count. In `fast`, members on finer grids are asked only around what those
        on coarser ones hold possible. The probabilities lie on the device, computed. On a GPU that is too small for it
        the sums move to the CPU, then the networks too; both where the GPU fails. What overflows fp16 is computed again
        in float32. `warn` is told of moves. Of several threads each gives the device its case while it computes
        another one's.
        """
        *roomy, last = placements(self.device)
        for place in roomy:
            try:
                return self._predict_on(place, prepared, settings, warn)
            except (RuntimeError, MemoryError) as error:
                if is_gpu_fault(error):
                    log.debug("the GPU failed", exc_info=error)
                    reason = printable(str(error).partition("\n")[0])
                    last = replace(last, note=f"the GPU failed ({reason}): it was computed on the CPU")
                    break
                if not is_out_of_memory(error):
                    raise
            with turn_at(self.device):
                self._engines.clear()  # and the memory of what they have recorded
                torch.cuda.empty_cache()  # not above: the error holds on to what it was raised over
        return self._predict_on(last, prepared, settings, warn)

    def _predict_on(
        self, place: Placement, prepared: Prepared, settings: Settings, warn: Callable[[str], None]
    ) -> Tensor:
        with beside(place.sums):
            inputs = self._inputs(prepared, place.sums)
        turn = turn_at(self.device)
        with turn:
            found = self._mean(place, inputs, settings)
            if place.networks != CPU and bool(turn.look(found.sum().isnan())):
                found = self._mean(place, inputs, settings, in_float32=True)
                turn.look(found.sum())  # until it is computed, as what it is computed from has to stay
        if place.note:
            warn(place.note)
        return found

    def _mean(
        self, place: Placement, inputs: dict[Key, Tensor], settings: Settings, in_float32: bool = False
    ) -> Tensor:
        """Over all members, coarser grids first."""
        mean: Tensor | None = None
        done = 0
        for members in self._coarse_first():
            box = EVERYTHING
            if settings.mode == Mode.FAST and mean is not None:
                box = self._closer_box(members, mean, settings.dust)
            part = {key: x[:, *box] for key, x in inputs.items()}
            found = self._mean_of(members, place, part, settings, in_float32)
            done += len(members)
            if mean is None:
                mean = found
            else:
                mean[:, *box].lerp_(found, len(members) / done)
        if mean is None:
            raise ValueError("an ensemble without members")
        return mean

    def _mean_of(
        self,
        members: Sequence[int],
        place: Placement,
        inputs: dict[Key, Tensor],
        settings: Settings,
        in_float32: bool,
    ) -> Tensor:
        """Over some members of one grid."""
        total: Tensor | None = None
        for index in members:
            member = self.members[index][0]
            window = member.window if settings.mode == Mode.ACCURATE else None
            engine = self._engine(index, place.networks)
            engine = exact(engine) if in_float32 else engine
            found = predict_member(engine, inputs[_key(member)], window, settings.flips)
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


def _key(member: Member) -> Key:
    """What tells one member's input from another's."""
    return member.normalisation, member.config.foreground, member.histogram_sha256


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


def network_input(
    images: NDArray[np.float32],
    brain: NDArray[np.bool_],
    normalisation: Normalisation,
    reference: NDArray[np.float32] | None,
    foreground: bool,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(4, X, Y, Z) raw -> the network's channels: normalised, and the brain mask as a fifth where it wants one.

    Written into `out` where it is given, else into a new array.
    """
    channels = np.empty((len(images) + foreground, *brain.shape), np.float32) if out is None else out
    normalise(images, normalisation, reference, out=channels[: len(images)])
    if foreground:
        channels[-1] = brain
    return channels
