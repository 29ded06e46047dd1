"""One case in Python: images in, labels and probabilities out, without a folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, NDArray

from brats_infer.errors import UsageError
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import Volume, read_images, write_labels
from brats_infer.image.contrasts import is_enough, with_absent
from brats_infer.image.exchanged import exchanged
from brats_infer.image.in_memory import volumes_in_memory
from brats_infer.labelling.confidence import confidence_in
from brats_infer.labelling.label_map import region_volumes
from brats_infer.network.devices import limit_threads
from brats_infer.network.ensemble import Ensemble
from brats_infer.network.loading import SHIPPED_WEIGHTS, load_ensemble, pick_device, refuse_fork
from brats_infer.pipeline import label, predict, prepare
from brats_infer.settings import Settings
from brats_infer.tasks import MODALITIES, Task, task_named
from model.checkpoint import MANIFEST

Image: TypeAlias = os.PathLike[str] | str | bytes | ArrayLike | SpatialImage | sitk.Image
"""A NIfTI file, an array or tensor (X, Y, Z), or an image of nibabel or SimpleITK."""
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Segmentation:
    """The result of one case."""

    labels: NDArray[np.uint8]
    """(X, Y, Z) on the input's own grid; `Task.label_names` in `brats_infer.tasks` explains the labels."""
    probabilities: NDArray[np.float32]
    """(R, X, Y, Z) of the task's regions, before thresholds and post-processing."""
    geometry: Geometry
    volumes: dict[str, float]
    """ml of each label and each region."""
    expected_dice: dict[str, float | None]
    """Of each region, from its probabilities (`brats_infer.labelling.confidence`); None if the region is empty."""
    warnings: tuple[str, ...] = ()

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4), voxels to mm."""
        return self.geometry.affine

    def to_nibabel(self) -> nib.Nifti1Image:
        """The labels as an image of nibabel (uint8) on the input's own grid."""
        header = nib.Nifti1Header()
        header.set_data_dtype(np.uint8)
        header.set_data_shape(self.labels.shape)
        self.geometry.put_into(header)
        return nib.Nifti1Image(self.labels, self.geometry.affine, header)

    def save(self, path: Path | str) -> None:
        """Writes the labels as NIfTI. Raises UsageError for a name that does not end in .nii.gz, OutputError."""
        if not str(path).endswith(".nii.gz"):
            raise UsageError(f"{path}: name it .nii.gz, as it is written compressed")
        write_labels(Path(path), self.labels, self.geometry)


def segment(
    images: Mapping[str, Image],
    *,
    task: str,
    affine: ArrayLike | None = None,
    weights: Path = SHIPPED_WEIGHTS,
    device: str | torch.device = "auto",
    settings: Settings | None = None,
) -> Segmentation:
    """Segments one case.

    `images` are {"t1n", "t1c", "t2w", "t2f": a NIfTI file, an array or tensor (X, Y, Z), or an image of nibabel or
    SimpleITK}, skull-stripped and on one grid, background 0, masked or NaN; for some tasks fewer (`Task.modalities`).
    One or two of the four may be left out; t1c or t2f is needed. Arrays and tensors need `affine` (4, 4), voxels to mm.
    The settings on_error, missing, resume and probabilities have no effect here. The networks stay loaded for the next
    call. Calls in several threads compute one at a time. A process that was forked after a call cannot compute.
    Raises UsageError, WeightsError, and CaseError for unusable images.
    """
    refuse_fork()
    chosen, settings = task_named(task), settings or Settings()
    volumes = _volumes(images, affine, chosen)
    ensemble = _ensemble(Path(weights), _state_of(Path(weights)), chosen, str(device))
    read = prepare(volumes, ensemble)
    with _ONE_AT_A_TIME:  # there may be no memory for two
        predicted = predict(read, ensemble, settings)
    labelled = label(predicted, ensemble.task, settings, complete=True)
    expected, doubts = confidence_in(labelled.labels, labelled.found, labelled.brain, labelled.restore, ensemble.task)
    return Segmentation(
        labelled.labels,
        labelled.probability_maps(),
        labelled.restore.geometry,
        {**labelled.millilitres, **region_volumes(labelled.millilitres, chosen)},
        expected,
        (*labelled.warnings, *exchanged(read.cropped), *labelled.notes, *doubts),
    )


def _state_of(weights: Path) -> int:
    """The time of the manifest: a new manifest means new weights."""
    try:
        return (weights / MANIFEST).stat().st_mtime_ns
    except OSError:  # reported when the manifest is read
        return 0


@lru_cache(maxsize=2)
def _ensemble(weights: Path, state: int, task: Task, device: str) -> Ensemble:
    """Loads an ensemble once for each `state` of a folder."""
    limit_threads()
    return load_ensemble(weights, task, pick_device(device))


def _volumes(images: Mapping[str, Image], affine: ArrayLike | None, task: Task) -> dict[Path, Volume]:
    """The checked images, in the order of the network's channels. Raises UsageError and CaseError."""
    names = [modality.name for modality in task.modalities]
    if not isinstance(images, Mapping):
        raise UsageError(f"images: is of the type {type(images).__name__}: give a dict with {', '.join(names)}")
    if not set(images) <= set(names) or not is_enough(images, task):
        some = "; one or two may be left out, but not both t1c and t2f" if task.modalities == MODALITIES else ""
        raise UsageError(f"images of {', '.join(map(str, images))} were given: give those of {', '.join(names)}{some}")
    given = {name: images[name] for name in names if name in images}
    volumes = _given_volumes(given, affine)
    return with_absent(dict(zip(given, volumes.items(), strict=True)), {}, "images", task)


def _given_volumes(given: Mapping[str, Image], affine: ArrayLike | None) -> dict[Path, Volume]:
    """The volumes of the images that are there. Raises UsageError and CaseError."""
    files = [Path(os.fsdecode(image)) for image in given.values() if isinstance(image, str | bytes | os.PathLike)]
    if not files:
        return volumes_in_memory(given, affine)
    if len(files) < len(given):
        raise UsageError("files and arrays are mixed: give all of one kind")
    if affine is not None:
        raise UsageError("files have an affine of their own: leave affine= out")
    if twice := next((file for file in files if files.count(file) > 1), None):
        raise UsageError(f"{twice}: is given for two contrasts: give a file for each")
    return read_images(files)
