"""The confidence in a label map, from its probabilities."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from brats_infer.image.crop import Restore, crop_labels
from brats_infer.image.voxels import within
from brats_infer.labelling.label_map import Found
from brats_infer.tasks import Task

FLOOR = 0.05  # lower probabilities count as 0: over a million background voxels they would add up
OVERCONFIDENCE = 2.0
"""The power that turns the probabilities' Dice into the one that experts measure (docs/experiments.md#report)."""
UNSURE = 0.73
"""A case with a lower mean expected Dice needs a look. Found on held-out real cases, as the power was."""

UNSURE_MAP = "the networks are unsure of the map"
"""Begins the remark on a case."""


def confidence_in(
    labels: NDArray[np.uint8], found: Found, brain: NDArray[np.bool_], restore: Restore, task: Task
) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """(expected Dice of each region, remarks on the case) of a label map (X, Y, Z) on the input's own grid."""
    expected = expected_dice(found.probabilities, crop_labels(labels, restore), task, brain)
    if not (labels.any() and is_unsure(expected)):
        return expected, ()
    return expected, (f"{UNSURE_MAP}: its expected Dice is {_mean(expected):.2f}, below {UNSURE}: look at the images",)


def expected_dice(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.uint8],
    task: Task,
    brain: NDArray[np.bool_] | None = None,
) -> dict[str, float | None]:
    """{region: (2 Σpm / (Σp + Σm))²} of the region's mask m and probabilities p, from (R, X, Y, Z) and (X, Y, Z).

    Without the square it is the mask's mean Dice if voxels are tumor as often as p says; networks are overconfident.
    p is a mean over members and mirror images, so it falls where these disagree. p counts as 0 where post-processing
    has removed voxels from the region, and outside the `brain` (X, Y, Z) if it is given. None if mask and
    probabilities are empty.
    """
    counted = probabilities[0] >= FLOOR
    for p in probabilities[1:]:
        counted |= p >= FLOOR
    if brain is not None:
        counted &= brain
    counted |= labels > 0
    at = np.flatnonzero(counted)  # few voxels: three times as fast as all of them
    labels = labels.reshape(-1)[at]
    found: dict[str, float | None] = {}
    for region, volume in zip(task.regions, probabilities, strict=True):
        p, mask = volume.reshape(-1)[at], within(labels, region.labels)
        inside = p[(p >= FLOOR) & (mask | (p < region.threshold))]
        total = float(inside.sum(dtype=np.float64)) + int(np.count_nonzero(mask))
        hit = float(p[mask].sum(dtype=np.float64))
        found[region.name] = round((2 * hit / total) ** OVERCONFIDENCE, 4) if total else None
    return found


def is_unsure(confidence: Mapping[str, float | None]) -> bool:
    """Whether the mean over the regions with a value is below `UNSURE`."""
    return _mean(confidence) < UNSURE


def _mean(confidence: Mapping[str, float | None]) -> float:
    """The mean over the regions with a value; 1 if there is none."""
    known = [value for value in confidence.values() if value is not None]
    return float(np.mean(known)) if known else 1.0
