"""A case as the report shows it: the brain's crop at 1 mm, axes to the left, to the back, up; labels, lesions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel.orientations as nio
import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.label_maps import on_grid, read_known
from brats_infer.files.cases import Case
from brats_infer.files.nifti import Volume, read_case
from brats_infer.image.contrasts import read_present
from brats_infer.image.crop import Cropped, Restore, crop_labels, crop_to_brain
from brats_infer.image.quality import check_content, oddities
from brats_infer.image.voxels import bounding_box, components_of
from brats_infer.labelling.label_map import label_volumes, region_volumes
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.tasks import Task


@dataclass(frozen=True)
class Sight:
    """The images, labels and volumes of a case that the report shows."""

    id: str
    task: Task
    images: NDArray[np.float32]
    """(C, X, Y, Z), background 0."""
    labels: NDArray[np.uint8]
    """(X, Y, Z)"""
    affine: NDArray[np.float64]
    """(4, 4): voxels of these arrays -> mm of the world."""
    millilitres: dict[str, float]
    """The volume of each label, on the input's own grid."""
    warnings: tuple[str, ...] = ()

    @property
    def regions(self) -> dict[str, float]:
        """Volume of each region, ml."""
        return region_volumes(self.millilitres, self.task)


def sight_of(
    case_id: str, task: Task, cropped: Cropped, labels: NDArray[np.uint8], warnings: tuple[str, ...] = ()
) -> Sight:
    """The sight of a case whose `labels` (X, Y, Z) are on the input's own grid."""
    ml = label_volumes(labels, task, cropped.restore.geometry.voxel_mm3)
    on_crop = crop_labels(labels, cropped.restore)
    return Sight(case_id, task, cropped.images, on_crop, affine_of_crop(cropped.restore), ml, warnings)


def read_sight(case: Case, labels_path: Path) -> Sight:
    """Reads a case's images and its label map. Raises CaseError for files that cannot be read or do not fit."""
    assert case.task
    found = read_known(labels_path, case.task)
    cropped, warnings = read_cropped(case)
    labels = on_images(found, labels_path, cropped, case.id)
    return sight_of(case.id, case.task, cropped, labels.data, (*warnings, *labels.warnings))


def on_images(labels: Volume, path: Path, cropped: Cropped, case_id: str) -> Volume:
    """Labels of a file on the grid of the case's images. Raises CaseError if they do not fit it."""
    return on_grid(labels, path, cropped.restore.geometry, f"the images of {case_id}", "check both folders")


def read_cropped(case: Case) -> tuple[Cropped, tuple[str, ...]]:
    """Reads and crops a case's images, with warnings of them. Raises CaseError."""
    volumes = read_present(case) if case.lacks else read_case(case)
    warnings = check_content(volumes)
    cropped = crop_to_brain(volumes)
    return cropped, (*warnings, *oddities(volumes, cropped))


def affine_of_crop(restore: Restore) -> NDArray[np.float64]:
    """(4, 4): voxels of the canonical crop at 1 mm -> mm of the world."""
    to_oriented = np.eye(4)
    if restore.resampled:  # the grids share a corner: voxel i at 1 mm is voxel (i + 1/2) / spacing - 1/2
        to_oriented = np.diag([*(1 / mm for mm in restore.spacing), 1.0])
        to_oriented[:3, 3] = [0.5 / mm - 0.5 for mm in restore.spacing]
    shift = np.eye(4)
    shift[:3, 3] = [side.start for side in restore.box]
    to_input = nio.inv_ornt_aff(restore.orientation, restore.geometry.shape)
    return np.asarray(restore.geometry.affine @ to_input @ to_oriented @ shift, np.float64)


def lesions_of(sight: Sight) -> list[dict[str, Any]]:
    """Every connected component of every region, the largest first: number, region, ml, centre in mm.

    The task says which neighbours connect. The centre is the component's voxel nearest to its mean.
    """
    box = bounding_box(sight.labels > 0, 1)
    corner = np.array([side.start for side in box])
    lesions = []
    for region, mask in zip(sight.task.regions, regions_from_labels(sight.labels[box], sight.task), strict=True):
        components = components_of(mask, sight.task.connectivity)
        found = [_lesion(region.name, at + corner, sight.affine) for at in voxels_of_each(components)]
        lesions += sorted(found, key=lambda lesion: -lesion["ml"])
    return [{"number": number, **lesion} for number, lesion in enumerate(lesions, start=1)]


def voxels_of_each(components: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
    """(N, 3) indices of the voxels of components 1, 2, … of an array (X, Y, Z)."""
    at = np.argwhere(components)
    numbers = components[tuple(at.T)]
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    return np.split(at[order], ends) if len(at) else []


def _lesion(region: str, voxels: NDArray[np.intp], affine: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "region": region,
        "ml": round(len(voxels) / 1000, 3),  # of 1 mm3 each
        "mm": [round(float(x), 1) for x in moved(affine, centre_of(voxels))],
    }


def moved(affine: NDArray[np.float64], point: NDArray[Any]) -> NDArray[np.float64]:
    """The point (3,) after the affine map (4, 4)."""
    return np.asarray(affine[:3, :3] @ point + affine[:3, 3])


def centre_of(voxels: NDArray[np.intp]) -> NDArray[np.intp]:
    """(N, 3) -> (3,): the voxel nearest to their mean."""
    return np.asarray(voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()])
