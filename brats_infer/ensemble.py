"""The ensemble: members, windows, flips -> the mean of the members' probabilities."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import fill_voids
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from brats_infer.devices import Placement, autocast, is_out_of_memory, placements
from brats_infer.errors import WeightsError
from brats_infer.preprocess import Cropped, Normalisation, normalise
from brats_infer.settings import Mode
from brats_infer.tasks import Task
from model.checkpoint import CheckpointError, Member, load_member, load_reference, read_manifest
from model.unet import UNet

log = logging.getLogger(__name__)

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"
GAUSSIAN_SIGMA = 0.125  # of the window's side, as nnU-Net and MONAI
GAUSSIAN_FLOOR = 1e-3
OVERLAP = 0.5

Predictor = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Ensemble:
    """The members of one task, and the device that is meant for them; `predict` brings them there."""

    members: tuple[tuple[Member, UNet], ...]
    device: torch.device
    references: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """{file of a member that is trained on matched histograms: its reference (4, N)}"""

    @torch.inference_mode()
    def predict(
        self, cropped: Cropped, mode: Mode, flips: bool, warn: Callable[[str], None] = log.warning
    ) -> NDArray[np.float32]:
        """Region probabilities (R, X, Y, Z) of a cropped case: the mean of the members' sigmoids.

        On a GPU that is too small for it the sums move to the CPU, then the networks too; `warn` is told.
        """
        *roomy, last = placements(self.device)
        for place in roomy:
            try:
                return self._predict_on(place, cropped, mode, flips, warn)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            torch.cuda.empty_cache()
        return self._predict_on(last, cropped, mode, flips, warn)

    def _predict_on(
        self, place: Placement, cropped: Cropped, mode: Mode, flips: bool, warn: Callable[[str], None]
    ) -> NDArray[np.float32]:
        brain = cropped.brain
        inputs: dict[tuple[str, bool, str], Tensor] = {}
        total: Tensor | None = None
        for member, network in self.members:
            key = (member.normalisation, member.config.foreground, member.histogram_sha256)
            if key not in inputs:
                reference = self.references.get(member.file)
                normalised = normalise(cropped.images, Normalisation(member.normalisation), reference)
                channels = network_input(normalised, brain, member.config.foreground)
                inputs[key] = torch.from_numpy(channels).to(place.sums)
            window = member.window if mode == Mode.ACCURATE else None
            out = predict_member(network.to(place.networks), inputs[key], window, flips)
            total = out if total is None else total.add_(out)
        if total is None:
            raise ValueError("an ensemble without members")
        found = keep_brain(total.div_(len(self.members)).cpu().numpy(), brain)
        if place.note:
            warn(place.note)
        return found


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
            if (member.config.modalities, member.config.regions) != (len(task.modalities), len(task.regions)):
                raise WeightsError(
                    f"{folder}: {member.file} has not the channels of the task {task.name}: choose other weights"
                )
        networks = [(member, load_member(folder, member)) for member in members]
        matched = [member for member in members if member.normalisation == Normalisation.HISTOGRAM]
        references = {member.file: load_reference(folder, member) for member in matched}
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    return Ensemble(tuple(networks), device, references)


def keep_brain(probabilities: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(R, X, Y, Z) with 0 outside the brain (X, Y, Z); cavities inside it belong to it."""
    filled = fill_voids.fill(np.pad(brain, 1), in_place=True)  # unpadded, some cavities at the array's edge would count
    return np.where(filled[1:-1, 1:-1, 1:-1], probabilities, np.float32(0))


def network_input(images: NDArray[np.float32], brain: NDArray[np.bool_], foreground: bool) -> NDArray[np.float32]:
    """(4, X, Y, Z) normalised -> the network's channels, with the brain mask as a fifth where it wants one."""
    return np.concatenate((images, brain[np.newaxis].astype(np.float32))) if foreground else images


def predict_member(network: UNet, x: Tensor, window: tuple[int, int, int] | None, flips: bool) -> Tensor:
    """(C, X, Y, Z) -> probabilities (R, X, Y, Z), float32 on the input's device; the network may be on another one.

    `window` None means the whole of it in one pass. With `flips`, the mean over all eight mirror images.
    """
    spacing = network.config.spacing
    if spacing > 1:
        return finer(_predict(network, coarser(x, spacing), window, flips), spacing, x.shape[1:])
    return _predict(network, x, window, flips)


def coarser(x: Tensor, spacing: int) -> Tensor:
    """(C, X, Y, Z) -> means of cubes of `spacing` voxels a side; those that stick out are filled with background."""
    padding = [p for n in reversed(x.shape[1:]) for p in (0, -n % spacing)]
    return functional.avg_pool3d(functional.pad(x, padding)[None], spacing)[0]


def finer(x: Tensor, spacing: int, shape: Sequence[int]) -> Tensor:
    """Back from `coarser`: (C, x, y, z) interpolated to (C, X, Y, Z)."""
    wide = functional.interpolate(x[None], scale_factor=spacing, mode="trilinear", align_corners=False)[0]
    return wide[:, : shape[0], : shape[1], : shape[2]]


def _predict(network: UNet, x: Tensor, window: tuple[int, int, int] | None, flips: bool) -> Tensor:
    """As `predict_member`, on the network's own grid."""
    axes: list[tuple[int, ...]] = [()]
    if flips:
        axes = [combination for n in range(4) for combination in itertools.combinations((1, 2, 3), n)]

    device = next(network.parameters()).device

    def probabilities(batch: Tensor) -> Tensor:  # (B, C, X, Y, Z) -> (B, R, X, Y, Z)
        with autocast(device):
            logits = network(batch.to(device))
        found = torch.sigmoid(logits.float()).to(x.device)
        return nested(found) if network.config.disjoint else found

    total: Tensor | None = None
    for flipped in axes:
        source = x.flip(flipped) if flipped else x
        out = (
            whole(source, probabilities, network.config.multiple)
            if window is None
            else sliding_window(source, probabilities, window)
        )
        out = out.flip(flipped) if flipped else out
        total = out if total is None else total.add_(out)
    assert total is not None
    return total.div_(len(axes))


def nested(disjoint: Tensor) -> Tensor:
    """Probabilities of disjoint labels (B, R, X, Y, Z) -> of nested regions: each region's own label and those inside.

    They exclude each other, so their probabilities add up; independent sigmoids may exceed 1 together.
    """
    return disjoint.flip(1).cumsum(1).flip(1).clamp_(max=1)


def whole(x: Tensor, predictor: Predictor, multiple: int) -> Tensor:
    """(C, X, Y, Z) -> (R, X, Y, Z) in one pass, padded with background at the end of each axis to a multiple.

    To two multiples at least: of one voxel at the bottom, instance norm would make nothing.
    """
    padding = [max(2 * multiple - n, -n % multiple) for n in x.shape[1:]]
    padded = functional.pad(x, [p for extra in reversed(padding) for p in (0, extra)])
    out = predictor(padded[None])[0]
    return out[:, : x.shape[1], : x.shape[2], : x.shape[3]]


def sliding_window(x: Tensor, predictor: Predictor, window: tuple[int, int, int], overlap: float = OVERLAP) -> Tensor:
    """(C, X, Y, Z) -> (R, X, Y, Z): the Gaussian-weighted mean over overlapping windows.

    Placement and weights are those of MONAI's `sliding_window_inference(mode="gaussian")`, which is the test's oracle.
    An input smaller than the window is padded with background on both sides.
    """
    padding = [max(0, w - n) for n, w in zip(x.shape[1:], window, strict=True)]
    before = [p // 2 for p in padding]
    padded = functional.pad(
        x, [p for b, extra in zip(reversed(before), reversed(padding), strict=True) for p in (b, extra - b)]
    )
    weights = gaussian_weights(window, x.device)  # (X_w, Y_w, Z_w)
    total: Tensor | None = None
    norm = torch.zeros(padded.shape[1:], device=x.device)
    for box in _window_boxes(tuple(padded.shape[1:]), window, overlap):
        out = predictor(padded[:, *box][None])[0]
        if total is None:
            total = torch.zeros((len(out), *padded.shape[1:]), device=x.device)
        total[:, *box] += out * weights
        norm[box] += weights
    assert total is not None
    inside = tuple(slice(b, b + n) for b, n in zip(before, x.shape[1:], strict=True))
    return (total / norm)[:, *inside]


def gaussian_weights(window: tuple[int, int, int], device: torch.device) -> Tensor:
    """(X_w, Y_w, Z_w): a Gaussian of 1/8 of the side, 1 at the centre, at least 1e-3."""
    weights = torch.ones((), device=device)
    for side in window:
        offset = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
        weights = weights[..., None] * torch.exp(-(offset**2) / (2 * (GAUSSIAN_SIGMA * side) ** 2))
    return weights.clamp(min=max(GAUSSIAN_FLOOR, float(weights.min())))


def _window_boxes(shape: tuple[int, ...], window: tuple[int, ...], overlap: float) -> Iterator[tuple[slice, ...]]:
    starts = []
    for size, side in zip(shape, window, strict=True):
        step = max(1, int(side * (1 - overlap)))
        count = -(-(size - side) // step) + 1
        starts.append([min(i * step, size - side) for i in range(count)])
    for corner in itertools.product(*starts):
        yield tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
