"""Label maps of prepared cases -> label maps on the patient's own scans."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.nifti import write_labels
from brats_infer.prepare.grids import Grid
from brats_infer.prepare.record import Scanned, read_record
from brats_infer.prepare.scan import zyx
from brats_infer.prepare.write import geometry_of
from brats_infer.tasks import Task

STEP = 1.0  # mm; voxels are averaged over points no further apart
EDGE = 0.01  # how far the probabilities of a voxel in the final map stay above one half


@dataclass(frozen=True)
class Restored:
    """A label map on one scan."""

    contrast: str
    path: Path
    millilitres: float
    """All labels."""


def restore_case(
    case_id: str, labels: Path, prepared: Path, out: Path, task: Task, probabilities: Path | None = None
) -> list[Restored]:
    """Writes `OUT/ID-on-CONTRAST.nii.gz` for each scan of a case. Raises CaseError.

    `labels` is the case's map, `prepared` the folder that `prepare` wrote for it. `probabilities` of the regions, as
    `infer` keeps them, make the borders smooth.
    """
    record = read_record(prepared)
    try:
        map_image = sitk.ReadImage(str(labels))
    except RuntimeError as error:
        raise CaseError(f"{labels}: cannot be read as NIfTI: segment the case again") from error
    values = sitk.GetArrayFromImage(map_image).astype(np.uint8)
    indicators = restored_regions(values, task, _regions(probabilities, values.shape) if probabilities else None)
    grid = Grid.of(map_image)
    written = []
    for contrast, scanned in record.contrasts.items():
        native = labels_on_scan(indicators, grid, scanned, task)
        path = out / f"{case_id}-on-{contrast}.nii.gz"
        write_labels(path, native, geometry_of(scanned.grid))
        millilitres = np.count_nonzero(native) * float(np.prod(scanned.spacing)) / 1000
        written.append(Restored(contrast, path, millilitres))
    return written


def labels_on_scan(indicators: NDArray[np.float32], grid: Grid, scanned: Scanned, task: Task) -> NDArray[np.uint8]:
    """(R, Z, Y, X) of the case, one half and more inside a region -> (X, Y, Z) labels on the scan's grid.

    A voxel is in a region if the mean over its own volume is: a thick slice covers many voxels of the case.
    """
    inverse = scanned.transform.GetInverse()
    target = scanned.grid
    labels = np.zeros(target.size, np.uint8)
    for region, indicator in zip(task.regions, indicators, strict=True):
        if not indicator.any():
            continue
        image = sitk.GetImageFromArray(indicator)
        image.SetOrigin(grid.origin)
        image.SetSpacing(grid.spacing)
        image.SetDirection(grid.direction)
        shares = [zyx(shifted.resample(image, inverse)) for shifted in _points(target)]
        labels[np.mean(shares, axis=0).T >= 0.5] = region.label
    return labels


def _points(grid: Grid) -> list[Grid]:
    """The grid, moved to points that are spread evenly over a voxel."""
    counts = [max(1, round(mm / STEP)) for mm in grid.spacing]
    axes = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    offsets = [[(i + 0.5) / count - 0.5 for i in range(count)] for count in counts]
    origins = [np.array(grid.origin) + axes @ np.array(offset) for offset in product(*offsets)]
    return [Grid(grid.size, (float(x), float(y), float(z)), grid.spacing, grid.direction) for x, y, z in origins]


def restored_regions(
    labels: NDArray[np.uint8], task: Task, probabilities: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """(R, Z, Y, X): at least one half where the label map has the region, below elsewhere.

    Probabilities are moved so that a region's threshold becomes one half, and cut where post-processing disagrees.
    """
    inside = np.stack([np.isin(labels, region.labels) for region in task.regions])
    if probabilities is None:
        return inside.astype(np.float32)
    thresholds = np.array([region.threshold for region in task.regions], np.float32).reshape(-1, 1, 1, 1)
    moved = probabilities - thresholds + np.float32(0.5)
    cut: NDArray[np.float32] = np.where(inside, np.clip(moved, 0.5 + EDGE, 1), np.clip(moved, 0, 0.5 - EDGE))
    return cut.astype(np.float32)


def _regions(path: Path, shape: Sequence[int]) -> NDArray[np.float32]:
    """(R, Z, Y, X) probabilities, as `infer` wrote them. Raises CaseError."""
    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError as error:
        raise CaseError(f"{path}: cannot be read: give the folder that --probabilities wrote") from error
    values = np.asarray(sitk.GetArrayFromImage(image), np.float32)
    if values.shape[1:] != tuple(shape):
        raise CaseError(f"{path}: is not on the grid of the label map: give the probabilities of the same run")
    return values
