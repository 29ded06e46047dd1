"""The ensemble of a task: its members' inputs, and the mean of their probabilities."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.image.crop import Cropped
from brats_infer.image.normalise import Normalisation, network_input
from brats_infer.image.voxels import EVERYTHING, Box
from brats_infer.labelling.label_map import Found, found_in
from brats_infer.network.imported_member import predict_logits, region_probabilities
from brats_infer.network.windows import POSSIBLE, Engine, closer_box, predict_member
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import Rule, Task
from model.config import Member
from model.source import Source


class InputKind(NamedTuple):
    """The properties that distinguish the members' inputs."""

    normalisation: str
    foreground: bool
    """Whether the brain is the last channel, for the network or to place its windows."""
    histogram_sha256: str


Inputs = Mapping[InputKind, Tensor]
"""(C, X, Y, Z) float32 for each kind of input among the members, on the host."""
EngineOf = Callable[[int], Engine]  # by the member's index


def input_kind(member: Member) -> InputKind:
    """The kind of a member's input."""
    placed = member.source is not None and member.source.nnunet_windows
    return InputKind(member.normalisation, member.config.foreground or placed, member.histogram_sha256)


def task_of(task: Task, members: Sequence[Member]) -> Task:
    """The task as all members label it: imported members alone label as their source does.

    Imported members of different sources label from the outermost region inwards.
    """
    sources = [member.source for member in members if member.source]
    if not sources or len(sources) < len(members):
        return task
    rules, thresholds = {source.rule for source in sources}, {source.threshold for source in sources}
    rule = Rule(sources[0].rule) if len(rules) == 1 else Rule.INWARDS
    threshold = sources[0].threshold if len(thresholds) == 1 else Source.threshold
    regions = tuple(replace(region, threshold=threshold) for region in task.regions)
    return replace(task, regions=regions, rule=rule, post_processed=False)


@dataclass(frozen=True)
class Lanes:
    """The numbers of cases in progress at a time."""

    reading: int = 1
    """As many cases are post-processed and written."""
    computing: int = 1
    """1: the thread that starts the run computes."""


class Ensemble:
    """The members of one task, ready to compute on the CPU."""

    def __init__(
        self,
        task: Task,
        members: tuple[Member, ...],
        references: Mapping[str, NDArray[np.float32]],
        engines: Sequence[Engine],
    ) -> None:
        """`references` is {weights file: reference (4, N)} of the members with histogram matching."""
        self.task = task_of(task, members)
        self.members = members
        self.references = references
        self.engines = engines

    @property
    def takes_absent(self) -> bool:
        """Whether all members were trained with contrasts left out."""
        return all(member.absent_contrasts for member in self.members)

    def prepare(self, cropped: Cropped) -> Inputs:
        """Normalises a case once for each kind of input."""
        inputs: dict[InputKind, Tensor] = {}
        for member in self.members:
            if (kind := input_kind(member)) not in inputs:
                inputs[kind] = self._input(cropped, member)
        return inputs

    @torch.inference_mode()
    def predict(self, inputs: Inputs, settings: Settings, complete: bool = False) -> Found:
        """The mean of the members' region probabilities, and the labels from the task's thresholds.

        Uses the settings mode, flips and dust. `complete` keeps the probabilities outside the labels' box.
        """
        return found_in(self.mean(self.engines.__getitem__, inputs, settings), self.task, complete)

    def stop(self) -> None:
        """Cancels the cases in other threads; on the CPU there are none."""

    def mean(self, engine_of: EngineOf, inputs: Inputs, settings: Settings) -> Tensor:
        """Probabilities (R, X, Y, Z), the mean over all members; also outside the brain.

        In `coarse-to-fine`, members on finer grids see only the box around the coarser members' possible tumor.
        """
        mean: Tensor | None = None
        done = 0
        for members in self._coarse_first():
            box = EVERYTHING
            if settings.mode == Mode.COARSE_TO_FINE and mean is not None:
                box = self._closer_box(members, self._anything(mean), settings.dust)
            found = self._mean_of_grid(members, engine_of, {kind: x[:, *box] for kind, x in inputs.items()}, settings)
            done += len(members)
            if mean is None:
                mean = found
            else:
                mean[:, *box].lerp_(found, len(members) / done)
        if mean is None:
            raise ValueError("an ensemble without members")
        return mean

    def _input(self, cropped: Cropped, member: Member) -> Tensor:
        """The input of one member, (C, X, Y, Z) float32."""
        foreground = input_kind(member).foreground
        x = self._memory((len(cropped.views) + foreground, *cropped.brain.shape))
        channels, variant = x.numpy(), Normalisation(member.normalisation)
        images = cropped.copied(channels[: len(cropped.views)])
        network_input(images, cropped.brain, variant, self.references.get(member.file), foreground, out=channels)
        return x

    def _memory(self, shape: tuple[int, ...]) -> Tensor:
        """Memory for an input; numpy allocates it in large pages."""
        return torch.from_numpy(np.empty(shape, np.float32))

    def _coarse_first(self) -> list[list[int]]:
        """The indices of the members of each grid, the coarsest grid first."""

        def spacing(index: int) -> int:
            return self.members[index].config.spacing

        in_order = sorted(range(len(self.members)), key=spacing, reverse=True)
        return [list(members) for _, members in itertools.groupby(in_order, spacing)]

    def _mean_of_grid(self, members: Sequence[int], engine_of: EngineOf, inputs: Inputs, settings: Settings) -> Tensor:
        """The mean over the members of one grid."""
        total: Tensor | None = None
        for model in self._models(members):
            found = self._of_model(model, engine_of, inputs, settings)
            if len(model) > 1:
                found.mul_(len(model))
            total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_(len(members)) if len(members) > 1 else total

    def _models(self, members: Sequence[int]) -> list[list[int]]:
        """Members that are folds of one imported model together, every other member alone."""
        models: dict[Source | int, list[int]] = {}
        for index in members:
            source = self.members[index].source
            models.setdefault(source.model_of_folds if source else index, []).append(index)
        return list(models.values())

    def _of_model(self, model: Sequence[int], engine_of: EngineOf, inputs: Inputs, settings: Settings) -> Tensor:
        """The probabilities (R, X, Y, Z) of one member, or of the folds of an imported model."""
        total: Tensor | None = None
        for index in model:
            member, engine = self.members[index], engine_of(index)
            x, window = inputs[input_kind(member)], member.window if settings.mode == Mode.SLIDING_WINDOW else None
            if member.source is None:
                return predict_member(engine, x, window, settings.flips)
            logits = predict_logits(engine, x, member.source, window, settings.flips)
            total = logits if total is None else total.add_(logits)
        assert total is not None
        return region_probabilities(total.div_(len(model)), self.members[model[0]].config)

    def _anything(self, mean: Tensor) -> Tensor:
        """Probabilities (R, X, Y, Z) -> (X, Y, Z): the highest one of the outermost regions."""
        first, *others = (mean[index] for index in self.task.outermost)
        for other in others:
            first = torch.maximum(first, other)
        return first

    def _closer_box(self, members: Sequence[int], anything: Tensor, dust: int) -> Box:
        """The box for finer members, from the coarser members' probabilities of any label (X, Y, Z)."""
        return closer_box((anything >= POSSIBLE).numpy(), self._box_step(members), dust)

    def _box_step(self, members: Sequence[int]) -> int:
        """Voxels of 1 mm; each side of the members' box is a multiple of it."""
        configs = [self.members[index].config for index in members]
        return max(config.multiple * config.spacing for config in configs)
