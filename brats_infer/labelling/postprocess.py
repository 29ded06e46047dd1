"""Post-processing: dust and its holes (paper 2.6), unsure components, voxels outside the brain."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.image.voxels import Box, bounding_box, components_of, filled, within, without_dust
from brats_infer.settings import DustFill, Settings
from brats_infer.tasks import Task

NEIGHBOURS_26 = np.ones((3, 3, 3), bool)
MANY = 10_000  # voxels


def clean(
    labels: NDArray[np.uint8],
    task: Task,
    voxel_mm3: float = 1.0,
    fill: DustFill = DustFill.BACKGROUND,
    dust_mm3: int | None = None,
) -> NDArray[np.uint8]:
    """Removes dust from a label map (X, Y, Z), the last region first, and closes the holes that this opens.

    For ET, then TC, then WT: components of `dust_mm3` (default: the region's) or less are removed. Removed voxels
    that the region around encloses take its own label (NCR in TC, ED in WT). A cavity that the network itself
    predicts stays. Components are 26-connected and the background is 6-connected, so that a region's surface has no
    leaks. Returns a new array.
    """
    box = bounding_box(labels > 0)
    out = labels.copy()
    view = out[box]  # outside the tumor's box all is background
    removed = np.zeros(view.shape, bool)
    for inner, around in zip(reversed(task.regions), reversed(task.outer), strict=True):
        size = inner.dust_mm3 if dust_mm3 is None else dust_mm3
        limit = int(size / voxel_mm3 + 1e-3)  # a float32 affine may turn 1 mm3 into 1.0000001
        removed |= _remove_dust(view, inner.labels, limit, task.connectivity, fill)
        if around is not None:
            outer = task.regions[around]
            opened = removed & (view == 0)
            if opened.any():
                opened &= filled(within(view, outer.labels))
            view[opened] = outer.label
    return out


def clean_up(
    labels: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    task: Task,
    voxel_mm3: float,
    settings: Settings,
) -> NDArray[np.uint8]:
    """Post-processes a label map (X, Y, Z) as a run does: `drop_unsure` by probabilities (R, X, Y, Z), then `clean`.

    If no tumor is left, unsure components stay. If still no tumor is left, the task's own dust sizes apply.
    """
    least = settings.component_probability
    sure = drop_unsure(labels, probabilities, task, least) if least else labels
    for kept, dust in ((sure, settings.dust), (labels, settings.dust), (labels, None)):
        cleaned = clean(kept, task, voxel_mm3, settings.dust_fill, dust)
        if cleaned.any():
            break
    return cleaned


def drop_unsure(
    labels: NDArray[np.uint8], probabilities: NDArray[np.float32], task: Task, least: float
) -> NDArray[np.uint8]:
    """Takes components with a mean probability (R, X, Y, Z) below `least` out of their regions in a map (X, Y, Z).

    The order is ET, TC, WT. A removed component joins the region around it and is judged there; without one it becomes
    background. A component that contains a kept component of an inner region stays. Returns a new array.
    """
    out = labels.copy()
    if not labels.any():
        return out
    box = bounding_box(labels > 0)
    view = out[box]
    kept: dict[int | None, NDArray[np.bool_]] = defaultdict(lambda: np.zeros(view.shape, bool))
    for index, region in reversed(list(enumerate(task.regions))):
        outer = task.outer[index]
        mask = within(view, region.labels)
        components = components_of(mask, task.connectivity)
        component = components[mask].astype(np.intp)  # number of each voxel's component
        unsure = np.bincount(component, probabilities[index][box][mask]) < least * np.bincount(component)
        unsure[components[kept[index]]] = False
        if unsure.any():
            view[mask] = np.where(unsure[component], 0 if outer is None else task.regions[outer].label, view[mask])
            mask = within(view, region.labels)
        kept[outer] |= mask
    return out


def keep_brain(found: NDArray[Any], brain: NDArray[np.bool_]) -> NDArray[Any]:
    """Labels (X, Y, Z) or probabilities (R, X, Y, Z), with 0 outside the brain (X, Y, Z) and its cavities."""
    voxels = np.logical_or.reduce(found.reshape(-1, *brain.shape) != 0)
    box = bounding_box(voxels)
    outside = voxels[box] & ~brain[box]
    if not outside.any():
        return found
    inside = brain if _see_the_edge(outside, box, brain) else filled(brain)
    kept = found.copy()
    kept[..., *box] *= inside[box]
    return kept


def _see_the_edge(voxels: NDArray[np.bool_], box: Box, brain: NDArray[np.bool_]) -> bool:
    """Whether each voxel (of the box, outside the brain) has free sight to the edge along an axis: none is in a cavity.

    True for most cases, and ten times as fast as `filled`. False for more than `MANY` voxels.
    """
    if np.count_nonzero(voxels) > MANY:
        return False
    points = np.argwhere(voxels) + [side.start for side in box]
    hidden = np.ones(len(points), bool)
    for axis in range(3):
        one, other = np.delete(points, axis, axis=1).T
        lines = np.moveaxis(brain, axis, -1)[one, other]  # (N, side)
        places, own = np.arange(lines.shape[1]), points[:, axis : axis + 1]
        hidden &= (lines & (places < own)).any(axis=1) & (lines & (places > own)).any(axis=1)
    return not hidden.any()


def _remove_dust(
    labels: NDArray[np.uint8], region: tuple[int, ...], limit: int, connectivity: int, fill: DustFill
) -> NDArray[np.bool_]:
    """Removes a region's small components in place; returns their mask (X, Y, Z)."""
    mask = within(labels, region)
    dust = mask & ~without_dust(mask, limit, connectivity)
    if fill == DustFill.BACKGROUND or not dust.any():
        labels[dust] = 0
        return dust
    components = components_of(dust, connectivity)
    boxes = ndimage.find_objects(components.astype(np.int32))
    modes = [_modal_neighbour(labels, components, index, box) for index, box in enumerate(boxes, start=1)]
    labels[dust] = np.array([0, *modes], labels.dtype)[components[dust]]
    return dust


def _modal_neighbour(
    labels: NDArray[np.uint8], components: NDArray[np.unsignedinteger], index: int, box: tuple[slice, ...]
) -> int:
    """The most frequent label among the 26-neighbours of a component; outside the array is background."""
    wide = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
    inside = np.pad(components[wide] == index, 1)
    shell = ndimage.binary_dilation(inside, NEIGHBOURS_26) & ~inside
    return int(np.bincount(np.pad(labels[wide], 1)[shell]).argmax())
