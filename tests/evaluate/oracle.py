"""The scores written down once more, plainly and slowly: whole volumes, scipy, every distance to every element.

The areas come from the table of normals that MONAI took over from DeepMind's program.
"""

from typing import Any

import numpy as np
from monai.metrics.utils import _get_neighbour_code_to_normals_table
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from brats_infer.tasks import Task

Spacing = tuple[float, float, float]
Elements = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Points (N, 3) in mm, areas (N,) in mm2."""

NORMALS = _get_neighbour_code_to_normals_table().numpy().astype(float)
KERNEL = np.array([[[128, 64], [32, 16]], [[8, 4], [2, 1]]])
TOUCHING_26 = ndimage.generate_binary_structure(3, 3)
TOUCHING_18 = ndimage.generate_binary_structure(3, 2)


def areas_of_codes(spacing: Spacing) -> NDArray[np.float64]:
    x, y, z = spacing
    return np.linalg.norm(NORMALS * np.array([y * z, x * z, x * y]), axis=-1).sum(axis=-1)


def elements(mask: NDArray[np.bool_], spacing: Spacing, origin: tuple[int, int, int] = (0, 0, 0)) -> Elements:
    """The surface elements of a mask whose first voxel lies at `origin`."""
    codes = ndimage.correlate(np.pad(mask, 1).astype(int), KERNEL, mode="constant")
    corners = np.argwhere((codes != 0) & (codes != 255))
    return (corners + origin) * np.array(spacing), areas_of_codes(spacing)[codes[tuple(corners.T)]]


def hd95_of_elements(a: Elements, b: Elements) -> float:
    if len(a[0]) == 0 or len(b[0]) == 0:
        return float("inf")
    distances = cdist(a[0], b[0])
    return max(percentile(distances.min(axis=1), a[1]), percentile(distances.min(axis=0), b[1]))


def percentile(distances: NDArray[np.float64], areas: NDArray[np.float64]) -> float:
    surfels = np.array(sorted(zip(distances, areas, strict=True)))
    reached = np.searchsorted(np.cumsum(surfels[:, 1]) / surfels[:, 1].sum(), 0.95)
    return float(surfels[min(reached, len(surfels) - 1), 0])


def hd95(prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Spacing) -> float:
    return hd95_of_elements(elements(prediction, spacing), elements(reference, spacing))


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def scores(
    prediction: NDArray[np.uint8], reference: NDArray[np.uint8], task: Task, spacing: Spacing
) -> dict[str, dict[str, Any]]:
    return {
        region.name: _region(*(np.isin(m, region.labels) for m in (prediction, reference)), task, spacing)
        for region in task.regions
    }


def _region(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], task: Task, spacing: Spacing
) -> dict[str, Any]:
    settings, voxel = task.metrics, float(np.prod(spacing))
    iterations, penalty = settings.dilation_iterations, settings.penalty_mm
    components, _ = ndimage.label(prediction, TOUCHING_26)
    joined, count = ndimage.label(ndimage.binary_dilation(reference, TOUCHING_18, iterations), TOUCHING_26)
    dices, lengths, found, hits, misses = [], [], set(), 0, 0
    for number in range(1, count + 1):
        lesion = reference & (joined == number)
        touched = set(np.unique(components[ndimage.binary_dilation(lesion, TOUCHING_18, iterations)])) - {0}
        found |= touched
        if lesion.sum() * voxel <= settings.ignored_mm3:
            continue
        partner = np.isin(components, list(touched))
        dices.append(dice(partner, lesion))
        lengths.append(min(hd95(partner, lesion, spacing), penalty) if touched else penalty)
        hits, misses = hits + bool(touched), misses + (not touched)
    invented = components.max() - len(found)
    total = len(dices) + invented
    both, either = (prediction & reference).sum(), (prediction | reference).sum()
    legacy = hd95(prediction, reference, spacing) if either else 0.0
    return {
        "num_tp": hits,
        "num_fp": invented,
        "num_fn": misses,
        "sensitivity": (both / reference.sum() if reference.any() else 0.0) if either else 1.0,
        "specificity": (~(prediction | reference)).sum() / max((~reference).sum(), 1e-16),
        "legacy_dice": dice(prediction, reference) if either else 1.0,
        "legacy_hd95": penalty if np.isinf(legacy) else legacy,
        "reference_volume": reference.sum() * voxel,
        "lesionwise_dice": sum(dices) / total if total else 1.0,
        "lesionwise_hd95": (sum(lengths) + penalty * invented) / total if total else 0.0,
    }
