"""Label maps of prepared cases -> label maps on the patient's own scans."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.errors import CaseError, NoCasesError, UsageError
from brats_infer.files.nifti import read_volume, write_labels
from brats_infer.preparation.dicom_segmentation import write_segmentation
from brats_infer.preparation.outcome import Outcome
from brats_infer.preparation.record import Scanned, read_record
from brats_infer.preparation.registration.grids import Grid
from brats_infer.preparation.registration.scan import zyx
from brats_infer.preparation.studies.study import find_studies, read_study
from brats_infer.preparation.write import geometry_of
from brats_infer.system.folders import prepare_folder
from brats_infer.tasks import Task, task_named, task_of_id

log = logging.getLogger(__name__)

ENDING = ".nii.gz"
STEP = 1.0  # mm; voxels are averaged over points no further apart
EDGE = 0.01  # how far the probabilities of a voxel in the final map stay above one half


@dataclass(frozen=True)
class Restored:
    """A label map on one scan."""

    contrast: str
    path: Path
    millilitres: float
    """All labels."""


def restore(
    labels: Path | str,
    prepared: Path | str,
    out: Path | str,
    *,
    task: str = "auto",
    probabilities: Path | str | None = None,
    studies: Path | str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Puts the label maps of prepared cases on the patient's own scans.

    Each `LABELS/ID.nii.gz` becomes `OUT/ID/ID-on-CONTRAST.nii.gz` for each scan of `PREPARED/ID` (of `prepare`).
    `task` "auto" takes the challenge from the IDs. `probabilities` is the folder of the same run's probabilities: with
    it the borders are smooth. With the `studies` that `prepare` read, a DICOM Segmentation is written for each series.
    `tell` receives a line with the volumes (ml) of each case.
    Returns an outcome for each map; its `problem` is None, or a line that says why the map could not be restored.
    Raises NoCasesError without a map, UsageError for an unusable folder or an unknown challenge, OutputError if `out`
    cannot be written.
    """
    labels, prepared, out = Path(labels), Path(prepared), Path(out)
    maps = sorted(labels.glob(f"*{ENDING}"))
    if not maps:
        raise NoCasesError(f"{labels}: holds no label map: expected {{ID}}.nii.gz")
    prepare_folder(out, "--out", {"the label maps": labels, "the prepared cases": prepared})
    outcomes = []
    for path in maps:
        name = path.name.removesuffix(ENDING)
        try:
            chosen = task_of(name, task)
            kept = Path(probabilities) / path.name if probabilities else None
            (out / name).mkdir(parents=True, exist_ok=True)
            restored = restore_case(
                name, path, prepared / name, out / name, chosen, kept if kept and kept.is_file() else None
            )
            if studies:
                _write_dicom(name, Path(studies), prepared, restored, chosen)
            tell(f"{name}: {', '.join(f'{each.contrast} {each.millilitres:.1f} ml' for each in restored)}")
            outcomes.append(Outcome(name))
        except CaseError as error:
            log.error("%s", error)
            outcomes.append(Outcome(name, str(error)))
    return outcomes


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


def task_of(name: str, task_name: str) -> Task:
    """The challenge that is given, or that an ID tells. Raises UsageError."""
    task = task_of_id(name) if task_name == "auto" else task_named(task_name)
    if task is None:
        raise UsageError(f"{name}: its name tells no challenge: give --task")
    return task


def _write_dicom(name: str, studies: Path, prepared: Path, restored: Sequence[Restored], task: Task) -> None:
    """A DICOM Segmentation for each scan that came from a series. Raises CaseError."""
    record = read_record(prepared / name)
    chosen = {contrast: scanned.series for contrast, scanned in record.contrasts.items()}
    folders = {folder.resolve().name: folder for folder in find_studies(studies)}
    if name not in folders:
        raise CaseError(f"{name}: is no study in {studies}: give the folder that prepare read")
    with tempfile.TemporaryDirectory(prefix="brats-opt-") as work:
        study = read_study(folders[name], Path(work), chosen)
    for each in restored:
        if not study.scans[each.contrast].dicom:
            continue
        volume = read_volume(each.path)
        target = each.path.with_name(each.path.name.removesuffix(ENDING) + ".dcm")
        names = {label: task.name_of(label) for label in task.labels}
        labels = volume.data.astype("uint8")
        write_segmentation(target, labels, volume.geometry.affine, study.scans[each.contrast].dicom, names)
