"""One case in Python: images in, labels and probabilities out, without a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from brats_infer.errors import CaseError, UsageError
from brats_infer.files.geometry import Geometry, check_affine
from brats_infer.files.nifti import Volume, check_same_grid, read_images, write_labels
from brats_infer.image.crop import crop_labels
from brats_infer.labelling.confidence import expected_dice
from brats_infer.labelling.label_map import region_volumes
from brats_infer.network.devices import limit_threads
from brats_infer.network.ensemble import Ensemble
from brats_infer.network.loading import SHIPPED_WEIGHTS, load_ensemble, pick_device
from brats_infer.pipeline import label, predict, prepare
from brats_infer.settings import Settings
from brats_infer.tasks import MODALITIES, Task, task_named
from model.checkpoint import MANIFEST

ARRAYS = Path("images")
"""Stands for the folder in messages about arrays."""
LAST_ROW = (0, 0, 0, 1)
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Segmentation:
    """The result of one case."""

    labels: NDArray[np.uint8]
    """(X, Y, Z) on the input's own grid; `brats_infer.tasks.LABEL_NAMES` explains the labels."""
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

    def save(self, path: Path | str) -> None:
        """Writes the labels as NIfTI. Raises UsageError for a name that does not end in .nii.gz, OutputError."""
        if not str(path).endswith(".nii.gz"):
            raise UsageError(f"{path}: name it .nii.gz, as it is written compressed")
        write_labels(Path(path), self.labels, self.geometry)


def segment(
    images: Mapping[str, Path | str | ArrayLike],
    *,
    task: str,
    affine: ArrayLike | None = None,
    weights: Path = SHIPPED_WEIGHTS,
    device: str | torch.device = "auto",
    settings: Settings | None = None,
) -> Segmentation:
    """Segments one case.

    `images` are {"t1n", "t1c", "t2w", "t2f": a NIfTI file or an array (X, Y, Z)}, skull-stripped and on one grid,
    background 0 or masked. Arrays need `affine` (4, 4), voxels to mm. The settings on_error, resume and probabilities
    have no effect here. The networks stay loaded for the next call. Calls in several threads compute one at a time.
    Raises UsageError, WeightsError, and CaseError for unusable images.
    """
    chosen, settings = task_named(task), settings or Settings()
    volumes = _volumes(images, affine)
    ensemble = _ensemble(Path(weights), _state_of(Path(weights)), chosen, str(device))
    read = prepare(volumes, ensemble)
    with _ONE_AT_A_TIME:  # there may be no memory for two
        predicted = predict(read, ensemble, settings, complete=True)
    labelled = label(predicted, chosen, settings)
    on_crop = crop_labels(labelled.labels, labelled.restore)
    return Segmentation(
        labelled.labels,
        labelled.probability_maps(),
        labelled.restore.geometry,
        {**labelled.millilitres, **region_volumes(labelled.millilitres, chosen)},
        expected_dice(labelled.found.probabilities, on_crop, chosen),
        (*labelled.warnings, *labelled.notes),
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


def _numbers(name: str, values: object, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    try:
        given = np.ma.filled(values, 0) if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
        with np.errstate(over="ignore"):  # too large numbers become Inf
            return given.astype(dtype, casting="same_kind" if given.dtype.kind == "c" else "unsafe")
    except (TypeError, ValueError) as error:
        raise CaseError(f"{name}: is no array of numbers ({error})") from error


def _volumes(images: Mapping[str, Path | str | ArrayLike], affine: ArrayLike | None) -> dict[Path, Volume]:
    """The checked images, in the order of the network's channels. Raises UsageError and CaseError."""
    names = [modality.name for modality in MODALITIES]
    if set(images) != set(names):
        raise UsageError(f"images of {', '.join(map(str, images))} were given: give those of {', '.join(names)}")
    given = [images[name] for name in names]
    files = [Path(image) for image in given if isinstance(image, Path | str)]
    if len(files) == len(given):
        if affine is not None:
            raise UsageError("files have an affine of their own: leave affine= out")
        if twice := next((file for file in files if files.count(file) > 1), None):
            raise UsageError(f"{twice}: is given for two contrasts: give four files")
        return read_images(files)
    if files:
        raise UsageError("files and arrays are mixed: give four of one kind")
    if affine is None:
        raise UsageError("arrays without an affine: give affine=, the matrix (4, 4) from voxels to mm")
    arrays = {ARRAYS / name: _numbers(name, image, np.float32) for name, image in zip(names, given, strict=True)}
    for path, array in arrays.items():
        if array.ndim != 3 or not array.size or not np.isfinite(array).all():
            raise CaseError(f"{path}: has the shape {array.shape} or is not finite: give an array (X, Y, Z) of numbers")
    matrix = _numbers("affine", affine, np.float64)
    if matrix.shape != (4, 4) or not np.array_equal(matrix[3], LAST_ROW):
        raise UsageError("affine: give a matrix (4, 4), from voxels to mm, whose last row is 0, 0, 0, 1")
    check_affine(ARRAYS, Geometry((1, 1, 1), matrix, {}))
    volumes = {
        path: Volume(a, Geometry.of_affine((a.shape[0], a.shape[1], a.shape[2]), matrix)) for path, a in arrays.items()
    }
    check_same_grid(volumes)
    return volumes
