"""The official lesion-wise scores of 2023, for one pair of label maps.

The challenge's own program defines them (github.com/rachitsaluja/BraTS-2023-Metrics). The settings of each challenge
stand in `tasks.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brats_infer.evaluate.surface import (
    Floats,
    Mask,
    Spacing,
    Surface,
    distances_to,
    percentile,
    surface_of,
)
from brats_infer.image.voxels import bounding_box, components_of, dilate, within
from brats_infer.tasks import LesionMetrics, Task, task_named

Labels = NDArray[np.unsignedinteger]
EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class RegionScores:
    """The scores of one region in one case, in the order of the official columns."""

    num_tp: int
    """Reference lesions above the ignored volume that the prediction touches."""
    num_fp: int
    """Predicted components that touch no reference lesion."""
    num_fn: int
    """Reference lesions above the ignored volume that nothing touches."""
    sensitivity: float
    specificity: float
    legacy_dice: float
    """Dice of the whole region."""
    legacy_hd95: float
    """HD95 of the whole region, mm."""
    reference_volume: float
    """mm3"""
    lesionwise_dice: float
    lesionwise_hd95: float
    """mm"""


@dataclass(frozen=True)
class LesionScores:
    """The scores of one lesion of the reference, or of one component that touches none."""

    status: str
    """"found", "missed" or "false"."""
    volume_mm3: float
    """Of the reference's lesion, or of the false component."""
    dice: float
    hd95: float
    """mm"""


@dataclass(frozen=True)
class Match:
    """Lesions and predicted components of a region, labelled 1, 2, … in two arrays (X, Y, Z), and which touch."""

    lesions: Labels
    components: Labels
    voxels: NDArray[np.intp]
    """(1 + lesions,): the voxels of each lesion."""
    hits: NDArray[np.intp]
    """(1 + lesions,): the predicted voxels of each lesion."""
    touches: dict[int, NDArray[np.intp]]
    """{lesion: the components that touch its dilated mask}; only lesions with such a component."""
    touching_voxels: NDArray[np.intp]
    """(1 + lesions,): the voxels of the components that touch each lesion."""
    invented: NDArray[np.intp]
    """(N,): the voxels of each component that touches no lesion."""


def lesionwise_scores(
    prediction: ArrayLike, reference: ArrayLike, task: Task | str, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[str, RegionScores]:
    """Scores a label map (X, Y, Z) against the reference (X, Y, Z): {region name: scores}, in the task's order.

    Both are arrays of whole numbers, of any type. `task` is a challenge or its name, `spacing` the voxel's edges in mm.
    Raises ValueError if the shapes differ, an array is not 3-D or holds other numbers, a spacing is not positive, or a
    map holds a label that the task does not know; UsageError for an unknown name.
    """
    return {region: scores for region, (scores, _) in scores_and_lesions(prediction, reference, task, spacing).items()}


def scores_and_lesions(
    prediction: ArrayLike, reference: ArrayLike, task: Task | str, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[str, tuple[RegionScores, tuple[LesionScores, ...]]]:
    """As `lesionwise_scores`, with the lesions of each region: those of the reference, then the false ones.

    Lesions that are too small to count are left out. The means over the lesions are the lesion-wise scores.
    """
    task = task_named(task) if isinstance(task, str) else task
    margin = task.metrics.dilation_iterations
    cropped, volume, spacing_mm = checked(prediction, reference, task, spacing, margin)
    scores = {}
    for region in task.regions:
        predicted, true = (within(labels, region.labels) for labels in cropped)
        inner = bounding_box(predicted | true, margin)
        scores[region.name] = _score(predicted[inner], true[inner], math.prod(volume), spacing_mm, task.metrics)
    return scores


def checked(
    prediction: ArrayLike, reference: ArrayLike, task: Task, spacing: Sequence[float], margin: int
) -> tuple[tuple[NDArray[np.integer], NDArray[np.integer]], tuple[int, ...], Spacing]:
    """((prediction, reference), both cropped to the labels with a margin in voxels; their whole shape; spacing in mm).

    Raises ValueError as `lesionwise_scores`.
    """
    prediction, reference = _label_array("prediction", prediction), _label_array("reference", reference)
    if prediction.shape != reference.shape or prediction.ndim != 3:
        raise ValueError(f"the label maps have the shapes {prediction.shape} and {reference.shape}, not one of 3 axes")
    if len(spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing):
        raise ValueError(f"the spacing {spacing} is not three lengths above 0")
    box = bounding_box((prediction != 0) | (reference != 0), margin)
    cropped = prediction[box], reference[box]
    for name, labels in zip(("prediction", "reference"), cropped, strict=True):
        if unknown := unknown_labels(labels, task):
            raise ValueError(f"the {name} holds the label {unknown[0]}: {task.name} knows 0 and {task.labels}")
    return cropped, prediction.shape, (float(spacing[0]), float(spacing[1]), float(spacing[2]))


def _label_array(name: str, given: ArrayLike) -> NDArray[np.integer]:
    """An array of whole numbers, as integers. Raises ValueError for any other."""
    labels = np.asarray(given)
    if labels.dtype.kind in "iu":
        return labels
    if labels.dtype.kind != "f":
        raise ValueError(f"the {name} is an array of {labels.dtype}, not of labels, which are whole numbers")
    with np.errstate(invalid="ignore"):
        whole: NDArray[np.integer] = labels.astype(np.int64)
    if not (whole == labels).all():
        raise ValueError(f"the {name} holds {labels[whole != labels][0]:.6g}, but labels are whole numbers")
    return whole


def unknown_labels(labels: NDArray[np.integer], task: Task) -> tuple[int, ...]:
    """The labels in a map of any shape that are neither 0 nor the task's, ascending."""
    inside = labels[bounding_box(labels != 0)]
    strange = inside[~within(inside, (0, *task.labels))]
    return tuple(int(label) for label in np.unique(strange))


def dilated_lesions(mask: Mask, iterations: int) -> Labels:
    """(X, Y, Z) -> components 1, 2, … of the dilated mask. All voxels in one component are one lesion."""
    return components_of(dilate(mask, iterations), 26)


def _score(
    predicted: Mask, reference: Mask, volume: int, spacing: Spacing, settings: LesionMetrics
) -> tuple[RegionScores, tuple[LesionScores, ...]]:
    """Scores one region from two cropped masks. `volume` is the number of voxels before cropping."""
    voxel_mm3 = spacing[0] * spacing[1] * spacing[2]
    match = match_lesions(predicted, reference, settings.dilation_iterations)
    counted = match.voxels * voxel_mm3 > settings.ignored_mm3
    legacy_hd95, lesion_hd95 = hd95_of(match, np.flatnonzero(counted), spacing, settings.penalty_mm)
    dices = 2.0 * match.hits[counted] / (match.voxels + match.touching_voxels)[counted]
    touched = match.touching_voxels[counted] > 0
    num_tp, num_fp = int(touched.sum()), len(match.invented)
    number = int(counted.sum()) + num_fp
    hit, positive, true = (int(np.count_nonzero(mask)) for mask in (predicted & reference, predicted, reference))
    nothing = positive == true == 0
    scores = RegionScores(
        num_tp=num_tp,
        num_fp=num_fp,
        num_fn=int(counted.sum()) - num_tp,
        sensitivity=1.0 if nothing else hit / (true + EPSILON),
        specificity=(volume - true - positive + hit) / (volume - true + EPSILON),
        legacy_dice=1.0 if nothing else 2 * hit / (positive + true),
        legacy_hd95=legacy_hd95,
        reference_volume=true * voxel_mm3,
        lesionwise_dice=float(dices.sum()) / number if number else 1.0,
        lesionwise_hd95=(float(lesion_hd95.sum()) + num_fp * settings.penalty_mm) / number if number else 0.0,
    )
    true_ones = zip(touched, match.voxels[counted] * voxel_mm3, dices, lesion_hd95, strict=True)
    lesions = [
        LesionScores("found" if found else "missed", float(mm3), float(dice), float(length))
        for found, mm3, dice, length in true_ones
    ]
    lesions += [LesionScores("false", float(mm3), 0.0, settings.penalty_mm) for mm3 in match.invented * voxel_mm3]
    return scores, tuple(lesions)


def match_lesions(predicted: Mask, reference: Mask, iterations: int) -> Match:
    """Labels lesions and components of two masks (X, Y, Z), and finds which touch.

    The reference is dilated `iterations` times, then labelled, so lesions that dilation joins are one. Each component
    of the dilated mask is therefore a lesion's own dilated mask.
    """
    dilated = dilated_lesions(reference, iterations)
    return match_of(dilated, reference, components_of(predicted, 26))


def match_of(dilated: Labels, reference: Mask, components: Labels) -> Match:
    """Matches lesions and predicted components, numbered 1, 2, … without holes.

    A lesion is what lies in the reference (X, Y, Z) of one number in `dilated` (X, Y, Z), its dilated mask. A component
    touches it if they share a voxel.
    """
    predicted = components != 0
    lesions = dilated * reference
    voxels = np.bincount(lesions[reference], minlength=int(dilated.max(initial=0)) + 1)
    component_voxels = np.bincount(components[predicted], minlength=int(components.max(initial=0)) + 1)
    pairs = dilated[predicted].astype(np.intp) * len(component_voxels) + components[predicted]
    pairs = np.unique(pairs[np.diff(pairs, prepend=-1) != 0])  # neighbours are mostly equal: fewer values to sort
    lesion, component = np.divmod(pairs[pairs >= len(component_voxels)], len(component_voxels))
    return Match(
        lesions=lesions,
        components=components,
        voxels=voxels,
        hits=np.bincount(lesions[predicted & reference], minlength=len(voxels)),
        touches={int(one): component[lesion == one] for one in np.unique(lesion)},
        touching_voxels=np.bincount(lesion, component_voxels[component], len(voxels)).astype(np.intp),
        invented=np.delete(component_voxels, [0, *np.unique(component)]),
    )


def hd95_of(match: Match, chosen: NDArray[np.intp], spacing: Spacing, penalty: float) -> tuple[float, Floats]:
    """The HD95 of the whole region and of each chosen lesion, in mm.

    No two lesions touch, nor do two components, so each surface element belongs to one of them. The nearest element of
    the whole other surface is therefore also the nearest of a lesion's partners, unless it belongs to no partner.
    """
    predicted, true = surface_of(match.components, spacing), surface_of(match.lesions, spacing)
    scores = np.full(len(chosen), penalty, np.float64)
    if len(predicted) == 0 or len(true) == 0:
        return (0.0 if len(predicted) == len(true) else penalty), scores
    to_predicted, to_true = distances_to(true, predicted), distances_to(predicted, true)
    whole = max(percentile(to_predicted[0], true.areas), percentile(to_true[0], predicted.areas))
    for index, lesion in enumerate(chosen):
        if lesion in match.touches:
            touching = np.zeros(int(predicted.owners.max()) + 1, bool)
            touching[match.touches[lesion]] = True
            own, partners = true.owners == lesion, touching[predicted.owners]
            if own.all() and partners.all():
                scores[index] = whole
                continue
            scores[index] = max(
                _percentile_between(true, own, predicted, partners, to_predicted),
                _percentile_between(predicted, partners, true, own, to_true),
            )
    return whole, scores


def _percentile_between(
    source: Surface, ours: Mask, target: Surface, theirs: Mask, nearest: tuple[Floats, NDArray[np.intp]]
) -> float:
    """The 95th percentile of the distances from some elements of one surface to some of the other, mm."""
    distances, areas = nearest[0][ours], source.areas[ours]
    astray = ~theirs[nearest[1][ours]]
    if astray.any():
        distances[astray], _ = distances_to(source.where(ours).where(astray), target.where(theirs))
    return percentile(distances, areas)
