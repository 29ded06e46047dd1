"""Lesion by lesion: found, missed or false by the official scores, with place and colour."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.lesionwise import Match, match_lesions
from brats_infer.evaluate.metrics2024.region_scores import settings_of
from brats_infer.evaluate.surface import Spacing
from brats_infer.image.voxels import bounding_box, within
from brats_infer.report.sight import centre_of, moved, voxels_of_each
from brats_infer.tasks import Task


class Part(IntEnum):
    """The role of a voxel in the scores of a region."""

    HIT = 1
    EXTRA = 2
    LEFT_OUT = 3
    FALSE = 4
    MISSED = 5


LEGEND = [
    {"value": Part.HIT.value, "name": "agree", "colour": "#4cc38a"},
    {"value": Part.EXTRA.value, "name": "too much", "colour": "#f5b942"},
    {"value": Part.LEFT_OUT.value, "name": "too little", "colour": "#6ea8fe"},
    {"value": Part.FALSE.value, "name": "false lesion", "colour": "#ff4d4f"},
    {"value": Part.MISSED.value, "name": "missed lesion", "colour": "#d05cff"},
]
"""The names and colours of `Part` on the page."""


@dataclass(frozen=True)
class ScoredRegion:
    """A region as official scores see it."""

    name: str
    labels: tuple[int, ...]
    steps: int
    """18-neighbour dilations of the reference that make lesions."""
    ignored_mm3: float
    """Reference lesions of this volume or less are left out."""


def scored_regions(task: Task, metrics: str) -> tuple[ScoredRegion, ...]:
    """The regions of the metrics of 2023 or 2024. Raises UsageError for a task without those of 2024."""
    if metrics == "2024":
        scored = [region for region in settings_of(task).regions if region.scored]
        return tuple(ScoredRegion(region.name, region.labels, region.steps, region.limit) for region in scored)
    steps, ignored = task.metrics.dilation_iterations, task.metrics.ignored_mm3
    return tuple(ScoredRegion(region.name, region.labels, steps, ignored) for region in task.regions)


def judge(
    prediction: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    region: ScoredRegion,
    spacing: Spacing,
    affine: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """A region of two label maps (X, Y, Z) -> a map of `Part`, and its lesions: outcome, volumes in ml, Dice, centre.

    Lesions are those of the official scores of 2023. Those of 2024 also join lesions of a region that touch one lesion
    of another tissue. Reference lesions come first: "tp", "fn", or "ignored" if they are too small to count. Then come
    components that touch no lesion: "fp". `affine` maps voxels to mm.
    """
    margin = region.steps
    box = bounding_box((prediction > 0) | (reference > 0), margin)
    predicted, true = (within(labels[box], region.labels) for labels in (prediction, reference))
    match = match_lesions(predicted, true, margin)
    parts = np.zeros(prediction.shape, np.uint8)
    parts[box] = _parts(predicted, true, match)
    corner = np.array([side.start for side in box])
    voxel_ml = float(np.prod(spacing)) / 1000
    found = [
        _reference_lesion(match, lesion, voxels + corner, voxel_ml, region.ignored_mm3)
        for lesion, voxels in _numbered(match.lesions)
    ]
    touching = {int(component) for components in match.touches.values() for component in components}
    found += [
        {
            "ml": len(voxels) * voxel_ml,
            "reference_ml": 0.0,
            "dice": 0.0,
            "outcome": "fp",
            "at": centre_of(voxels + corner),
        }
        for component, voxels in _numbered(match.components)
        if component not in touching
    ]
    return parts, [_record(region.name, lesion, affine) for lesion in found]


def _parts(predicted: NDArray[np.bool_], true: NDArray[np.bool_], match: Match) -> NDArray[np.uint8]:
    found = np.isin(match.lesions, list(match.touches))
    touching = np.isin(match.components, np.concatenate([np.zeros(0, np.intp), *match.touches.values()]))
    parts = np.zeros(predicted.shape, np.uint8)
    parts[true] = np.where(found[true], Part.LEFT_OUT, Part.MISSED)
    parts[predicted] = np.where(touching[predicted], Part.EXTRA, Part.FALSE)
    parts[predicted & true] = Part.HIT
    return parts


def _numbered(components: NDArray[Any]) -> list[tuple[int, NDArray[np.intp]]]:
    """[(number, its voxels (N, 3))]"""
    return [(int(components[tuple(voxels[0])]), voxels) for voxels in voxels_of_each(components)]


def _reference_lesion(
    match: Match, lesion: int, voxels: NDArray[np.intp], voxel_ml: float, ignored_mm3: float
) -> dict[str, Any]:
    touching = int(match.touching_voxels[lesion])
    counted = len(voxels) * voxel_ml * 1000 > ignored_mm3
    return {
        "ml": touching * voxel_ml,
        "reference_ml": len(voxels) * voxel_ml,
        "dice": 2 * int(match.hits[lesion]) / (len(voxels) + touching),
        "outcome": ("tp" if touching else "fn") if counted else "ignored",
        "at": centre_of(voxels),
    }


def _record(region: str, lesion: dict[str, Any], affine: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "region": region,
        "ml": round(lesion["ml"], 3),
        "reference_ml": round(lesion["reference_ml"], 3),
        "dice": round(lesion["dice"], 4),
        "outcome": lesion["outcome"],
        "mm": [round(float(x), 1) for x in moved(affine, lesion["at"])],
    }
