"""How far a label map can be trusted, by the probabilities that it was made of."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from brats_infer.labelling.regions import regions_from_labels
from brats_infer.tasks import Task

FLOOR = 0.05  # probabilities below it are taken as 0: over a million voxels of background they would add up
UNSURE = 0.83
"""A case is to be looked at whose mean expected Dice is below it: found on phantoms made hard (docs/experiments.md)."""


def expected_dice(probabilities: NDArray[np.float32], labels: NDArray[np.uint8], task: Task) -> dict[str, float | None]:
    """{region: 2 Σpm / (Σp + Σm)} of the region's mask m under its probabilities p, (R, X, Y, Z) and (X, Y, Z).

    The Dice that the mask would have on average if the voxels were tumor as often as the probabilities say. These are
    means over members and mirror images, so where those disagree it falls. Where post-processing took voxels out of a
    region, p is 0: it has judged them already. None where neither mask nor probability is.
    """
    found: dict[str, float | None] = {}
    for region, p, mask in zip(task.regions, probabilities, regions_from_labels(labels, task), strict=True):
        inside = p[(p >= FLOOR) & (mask | (p < region.threshold))]
        total = float(inside.sum(dtype=np.float64)) + int(np.count_nonzero(mask))
        hit = float(p[mask].sum(dtype=np.float64))
        found[region.name] = round(2 * hit / total, 4) if total else None
    return found


def is_unsure(confidence: Mapping[str, float | None]) -> bool:
    """Whether the mean over the regions that are there falls below `UNSURE`."""
    known = [value for value in confidence.values() if value is not None]
    return bool(known) and float(np.mean(known)) < UNSURE
