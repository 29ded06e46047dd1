"""The confidence in a label map, from its probabilities."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from brats_infer.labelling.regions import regions_from_labels
from brats_infer.tasks import Task

FLOOR = 0.05  # lower probabilities count as 0: over a million background voxels they would add up
UNSURE = 0.83
"""A case with a lower mean expected Dice needs a look. Found on difficult phantoms (docs/experiments.md)."""


def expected_dice(probabilities: NDArray[np.float32], labels: NDArray[np.uint8], task: Task) -> dict[str, float | None]:
    """{region: 2 Σpm / (Σp + Σm)} of the region's mask m and probabilities p, from (R, X, Y, Z) and (X, Y, Z).

    It is the mask's mean Dice if voxels are tumor as often as p says. p is a mean over members and mirror images, so
    it falls where these disagree. p counts as 0 where post-processing has removed voxels from the region. None if
    mask and probabilities are empty.
    """
    found: dict[str, float | None] = {}
    for region, p, mask in zip(task.regions, probabilities, regions_from_labels(labels, task), strict=True):
        inside = p[(p >= FLOOR) & (mask | (p < region.threshold))]
        total = float(inside.sum(dtype=np.float64)) + int(np.count_nonzero(mask))
        hit = float(p[mask].sum(dtype=np.float64))
        found[region.name] = round(2 * hit / total, 4) if total else None
    return found


def is_unsure(confidence: Mapping[str, float | None]) -> bool:
    """Whether the mean over the regions with a value is below `UNSURE`."""
    known = [value for value in confidence.values() if value is not None]
    return bool(known) and float(np.mean(known)) < UNSURE
