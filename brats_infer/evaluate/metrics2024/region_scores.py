"""The official lesion-wise scores of 2024, for one pair of label maps.

The challenges' own programs define them (github.com/rachitsaluja/BraTS-2024-Metrics). The settings of each challenge
stand in `tasks.py`. Sensitivity, specificity and legacy HD95 are those of masks; the programs compute them on the
numbers of lesions, which is the same where prediction and reference have one lesion at most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_infer.errors import UsageError
from brats_infer.evaluate.lesionwise import LesionScores, Match, checked, hd95_of, match_of
from brats_infer.evaluate.metrics2024.joining import joined, touching_lesions
from brats_infer.evaluate.metrics2024.merging import Merged, merged
from brats_infer.evaluate.metrics2024.nsd import SurfaceDice
from brats_infer.evaluate.surface import Floats, Spacing
from brats_infer.image.voxels import Box, bounding_box, within
from brats_infer.tasks import TASKS, Metrics2024, Region2024, Task, task_named


@dataclass(frozen=True)
class RegionScores2024:
    """The scores of one region in one case, in the order of the official columns."""

    num_tp: int
    """Reference lesions above the limit that a predicted lesion reaches."""
    num_fp: int
    """Predicted lesions that reach no reference lesion."""
    num_fn: int
    """Reference lesions above the limit that nothing reaches."""
    sensitivity: float
    specificity: float
    legacy_dice: float
    """Dice of the whole region. Legacy columns leave small predicted lesions out, but no reference lesion."""
    legacy_hd95: float
    """HD95 of the whole region, mm."""
    legacy_nsd_05: float
    """NSD of the whole region at 0.5 mm."""
    legacy_nsd_10: float
    """At 1 mm."""
    reference_volume: float
    """mm3"""
    lesionwise_dice: float
    lesionwise_hd95: float
    """mm"""
    lesionwise_nsd_05: float
    lesionwise_nsd_10: float


@dataclass(frozen=True)
class LesionScores2024(LesionScores):
    """As `LesionScores`, for the rules of 2024."""

    nsd_05: float
    nsd_10: float


@dataclass(frozen=True)
class _Sides:
    """A region of both label maps, in its box."""

    box: Box
    predicted: Merged
    true: Merged


@dataclass(frozen=True)
class _Grid:
    """What the scores need of the whole volume."""

    voxels: int
    spacing: Spacing
    """mm, in float32 as the official programs have it."""
    penalty_mm: float

    @property
    def voxel_mm3(self) -> float:
        return self.spacing[0] * self.spacing[1] * self.spacing[2]


def settings_of(task: Task) -> Metrics2024:
    """The task's settings of 2024. Raises UsageError if it has none."""
    if task.metrics_2024 is None:
        known = ", ".join(other.name for other in TASKS.values() if other.metrics_2024)
        raise UsageError(f"the metrics of 2024 have no settings for {task.name}, only for {known}")
    return task.metrics_2024


def penalty_of(task: Task, shape: Sequence[int]) -> float:
    """The HD95 of a missed or invented lesion in a volume of that shape. Raises UsageError as `settings_of`."""
    penalty = settings_of(task).penalty_mm
    return math.hypot(*shape) if penalty is None else float(penalty)


def scores_2024(
    prediction: ArrayLike, reference: ArrayLike, task: Task | str, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[str, tuple[RegionScores2024, tuple[LesionScores2024, ...]]]:
    """Scores a label map (X, Y, Z) against the reference (X, Y, Z): {region: (scores, lesions)}, in the official order.

    Arrays, `task` and `spacing` are those of `brats_infer.evaluate.lesionwise_scores`, and so are the errors. Lesions
    are those of the reference, then the false ones; those too small to count are left out. Raises UsageError for a task
    without scores of 2024.
    """
    task = task_named(task) if isinstance(task, str) else task
    settings = settings_of(task)
    margin = max(region.steps for region in settings.regions)
    cropped, shape, exact = checked(prediction, reference, task, spacing, margin)
    spacing_mm = (float(np.float32(exact[0])), float(np.float32(exact[1])), float(np.float32(exact[2])))
    grid = _Grid(math.prod(shape), spacing_mm, penalty_of(task, shape))
    sides = {region.name: _sides(region, *cropped, settings, grid.voxel_mm3) for region in settings.regions}
    predicted, true = (
        _joined(settings, {name: (one.box, side) for name, one, side in lesions}, cropped[0].shape)
        for lesions in (
            [(name, one, one.predicted) for name, one in sides.items()],
            [(name, one, one.true) for name, one in sides.items()],
        )
    )
    return {
        region.name: _score(predicted[region.name], true[region.name], region, settings, grid)
        for region in settings.regions
        if region.scored
    }


def _sides(
    region: Region2024,
    prediction: NDArray[np.integer],
    reference: NDArray[np.integer],
    settings: Metrics2024,
    voxel_mm3: float,
) -> _Sides:
    """The lesions of a region in two label maps; small predicted ones are gone."""
    predicted, true = (within(labels, region.labels) for labels in (prediction, reference))
    either = predicted | true
    wide = bounding_box(either, region.steps)
    inner = bounding_box(either[wide])
    x, y, z = (slice(w.start + i.start, w.start + i.stop) for w, i in zip(wide, inner, strict=True))
    limit = region.limit / voxel_mm3 if settings.drops_by_mm3 else region.limit
    lesions = [merged(mask[wide], region.steps).inside(inner) for mask in (predicted, true)]
    return _Sides((x, y, z), lesions[0].without_small(limit), lesions[1])


def _joined(settings: Metrics2024, lesions: dict[str, tuple[Box, Merged]], shape: tuple[int, ...]) -> dict[str, Merged]:
    """{region: its lesions}, joined by those of other regions and numbered 1, 2, … without holes."""
    taking_part = {name for region in settings.regions if region.joined_by for name in (region.name, *region.joined_by)}
    tissues = {name: (box, one.numbers) for name, (box, one) in lesions.items() if name in taking_part}
    pairs = touching_lesions(tissues, shape) if tissues else {}
    found = {}
    for region in settings.regions:
        one = lesions[region.name][1]
        new = joined(len(one.voxels) - 1, [pairs[region.name, other] for other in region.joined_by])
        new[one.voxels == 0] = 0
        new[0] = 0
        places = np.unique(np.append(new, 0), return_inverse=True)[1][:-1]
        unchanged = np.array_equal(places, np.arange(len(places)))
        found[region.name] = one if unchanged else one.renumbered(places)
    return found


def _score(
    predicted: Merged, true: Merged, region: Region2024, settings: Metrics2024, grid: _Grid
) -> tuple[RegionScores2024, tuple[LesionScores2024, ...]]:
    """Scores one region."""
    match = match_of(true.reach, true.mask, predicted.numbers)
    counted = match.voxels * grid.voxel_mm3 > region.limit
    legacy_hd95, lesion_hd95 = hd95_of(match, np.flatnonzero(counted), grid.spacing, grid.penalty_mm)
    legacy_nsd, lesion_nsd = _nsd(match, np.flatnonzero(counted), grid.spacing)
    dices = 2.0 * match.hits[counted] / (match.voxels + match.touching_voxels)[counted]
    found = match.touching_voxels[counted] > 0
    num_fp = len(match.invented)
    counted_fp = num_fp if settings.counts_false else 0
    number = len(dices) + counted_fp

    def over_lesions(values: Floats, false: float, none: float) -> float:
        return (float(values.sum()) + counted_fp * false) / number if number else none

    hit, positive, truth = (int(np.count_nonzero(m)) for m in (predicted.mask & true.mask, predicted.mask, true.mask))
    scores = RegionScores2024(
        num_tp=int(found.sum()),
        num_fp=num_fp,
        num_fn=int((~found).sum()),
        sensitivity=hit / truth if truth else float(positive == 0),
        specificity=(grid.voxels - truth - positive + hit) / (grid.voxels - truth) if truth < grid.voxels else 1.0,
        legacy_dice=2 * hit / (positive + truth) if positive + truth else 1.0,
        legacy_hd95=legacy_hd95,
        legacy_nsd_05=legacy_nsd[0],
        legacy_nsd_10=legacy_nsd[1],
        reference_volume=truth * grid.voxel_mm3,
        lesionwise_dice=over_lesions(dices, 0.0, 1.0),
        lesionwise_hd95=over_lesions(lesion_hd95, grid.penalty_mm, 0.0),
        lesionwise_nsd_05=over_lesions(lesion_nsd[:, 0], 0.0, 1.0),
        lesionwise_nsd_10=over_lesions(lesion_nsd[:, 1], 0.0, 1.0),
    )
    columns = (found, match.voxels[counted] * grid.voxel_mm3, dices, lesion_hd95, *lesion_nsd.T)
    lesions = [
        LesionScores2024("found" if is_found else "missed", *(float(number) for number in numbers))
        for is_found, *numbers in zip(*columns, strict=True)
    ]
    false_ones = match.invented * grid.voxel_mm3
    lesions += [LesionScores2024("false", float(mm3), 0.0, grid.penalty_mm, 0.0, 0.0) for mm3 in false_ones]
    return scores, tuple(lesions)


def _nsd(match: Match, chosen: NDArray[np.intp], spacing: Spacing) -> tuple[tuple[float, ...], Floats]:
    """The NSD of the whole region, and of each chosen lesion (N, 2), at 0.5 and 1 mm."""
    surfaces = SurfaceDice(match.components, match.lesions, spacing)
    every = [np.arange(int(numbers.max(initial=0)) + 1) > 0 for numbers in (match.components, match.lesions)]
    scores = np.zeros((len(chosen), 2))
    for index, lesion in enumerate(chosen):
        if lesion in match.touches:
            predicted, true = (np.zeros_like(one) for one in every)
            predicted[match.touches[lesion]] = True
            true[lesion] = True
            scores[index] = surfaces.between(predicted, true)
    return surfaces.between(every[0], every[1]), scores
