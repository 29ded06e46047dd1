"""Training cases: found on disk, preprocessed once into a cache, and memory-mapped from the cache."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.evaluate.label_maps import on_grid, read_reference
from brats_infer.files.cases import Case
from brats_infer.files.nifti import read_case
from brats_infer.files.pointers import pointer_remedy
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import crop_labels, crop_to_brain
from brats_infer.image.normalise import Normalisation, histogram_reference, network_input
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.network.windows import coarser
from brats_infer.system.cores import usable_cores
from brats_infer.tasks import Task, patient_of, task_named
from brats_infer.train.data.label_dust import without_label_dust
from brats_infer.train.data.labelled import Labelled, labelled_cases, references_of, without_labels
from model.atomic import remove_leftovers, write_atomically

log = logging.getLogger(__name__)

CACHE_VERSION = 3
CENTRES = 4096  # voxels kept of each region and of the brain, as centres of patches
CENTRES_OF = "centres-"  # and the number of the region; the brain comes last


@dataclass(frozen=True)
class TrainingCase:
    """One case as the network's input, in memory or memory-mapped, on a grid of 1 mm or more."""

    id: str
    image: Tensor
    """(C + 1, X, Y, Z) float16: normalised modalities and the brain mask; background is 0."""
    regions: Tensor
    """(R, X, Y, Z) bool, in the task's order."""
    centres: tuple[NDArray[np.int32], ...]
    """(N, 3) voxels inside each region, and last inside the brain; N = 0 for an empty region."""

    @classmethod
    def of_arrays(cls, case_id: str, image: NDArray[np.float16], regions: NDArray[np.bool_]) -> "TrainingCase":
        """A case in memory, with its centres."""
        masks = [*regions, image[-1] > 0]
        return cls(case_id, torch.from_numpy(image), torch.from_numpy(regions), tuple(_some_voxels(m) for m in masks))


@dataclass(frozen=True)
class Split:
    """The cases to train on, the held-out cases, and the histogram reference if the normalisation needs one."""

    training: tuple[TrainingCase, ...]
    validation: tuple[TrainingCase, ...]
    histogram: NDArray[np.float32] | None = None
    phantoms: tuple[TrainingCase, ...] = ()
    """Synthetic cases to train on."""
    fresh: Callable[[int, torch.device], TrainingCase] | None = None
    """Makes the synthetic case of a seed on a device; replaces `phantoms`."""
    left_out: tuple[str, ...] = ()
    """A text for each case of the folder without a label map: its ID, and what lies there instead."""
    skipped: int = 0
    """Cases with a label map that are left alone."""

    @property
    def synthetic(self) -> bool:
        """Whether there are synthetic cases."""
        return bool(self.phantoms or self.fresh)


def load_split(
    folder: Path,
    task_name: str,
    hold_out: Sequence[str],
    skip: Sequence[str],
    normalisation: Normalisation,
    cache: Path,
    phantoms: Path | None = None,
    spacing: int = 1,
    clean: bool = False,
    others: bool = False,
) -> Split:
    """Loads every case with a `{ID}-seg.nii.gz` anywhere below `folder`, and likewise below `phantoms`.

    `hold_out` names the cases to validate on, `skip` the cases to leave out. Training cases have voxels of `spacing`
    mm; `clean` removes dust from their labels. Held-out cases stay at 1 mm with all labels. The histogram reference is
    made from the training cases, or from the phantoms if there are no others. `cache` keeps preprocessed cases.
    `others` says that synthetic cases will be made while training.

    Raises UsageError for IDs that cannot be held out or skipped, for a held-out patient with other cases in the
    training cases, for a held-out file among `phantoms`, and for nothing to train on; NoCasesError for a folder without
    cases; CaseError for a case or file that cannot be used; OutputError for a cache that cannot be written.
    """
    task = task_named(task_name)
    cases = find_cases(folder, task_name)
    references = references_of(folder, cases)
    used = [(case, references[case.id]) for case in cases if case.id in references]
    skipped = sum(case.id in skip for case, _ in used)
    left_out = tuple(without_labels(case) for case in cases if case.id not in references and case.id not in skip)
    if unknown := (set(hold_out) | set(skip)) - {case.id for case in cases}:
        raise UsageError(f"{folder}: holds no case {', '.join(sorted(unknown))}: check --hold-out and --skip")
    used = [(case, reference) for case, reference in used if case.id not in skip]
    if lost := set(hold_out) - {case.id for case, _ in used}:
        raise UsageError(f"{folder}: cannot hold out {', '.join(sorted(lost))}: skipped, or without {{ID}}-seg.nii.gz")
    training = [pair for pair in used if pair[0].id not in hold_out]
    extra = labelled_cases(phantoms, task_name) if phantoms else []
    if not training and not extra and not (others and normalisation != Normalisation.HISTOGRAM):
        raise UsageError(
            f"{folder}: no case to train on has a {{ID}}-seg.nii.gz: give the folder that holds images and labels"
        )
    validation = [pair for pair in used if pair[0].id in hold_out]
    _check_held_out(validation, training, extra, phantoms)
    histogram = None
    if normalisation == Normalisation.HISTOGRAM:
        histogram = histogram_reference(_read(case, reference, task)[0] for case, reference in training or extra)
    load = partial(_load, task, normalisation, histogram, cache)
    sides = load(training, spacing, clean), load(validation, 1, False)
    return Split(*sides, histogram, load(extra, spacing, clean), None, left_out, skipped)


def _check_held_out(validation: Labelled, training: Labelled, extra: Labelled, phantoms: Path | None) -> None:
    """Raises UsageError if a case of a held-out patient is among the training cases, or a held-out file among the
    phantoms.

    IDs of phantoms name no patients: for them only the files are compared.
    """
    patients = {patient_of(case.id) for case, _ in validation}
    if leaks := [case.id for case, _ in training if patient_of(case.id) in patients]:
        raise UsageError(f"--hold-out: {leaks[0]} is of a patient who is held out: --hold-out or --skip it too")
    held = {reference.resolve() for _, reference in validation}
    if leaks := [case.id for case, reference in extra if reference.resolve() in held]:
        raise UsageError(f"--phantoms {phantoms}: holds {leaks[0]}, which is held out: give a folder of phantoms alone")


def _load(
    task: Task,
    normalisation: Normalisation,
    histogram: NDArray[np.float32] | None,
    cache: Path,
    cases: Iterable[tuple[Case, Path]],
    spacing: int,
    clean: bool,
) -> tuple[TrainingCase, ...]:
    """The cases from the cache; missing entries are added to it first."""
    settings = repr((CACHE_VERSION, task, str(normalisation), spacing, *(["clean"] if clean else []))).encode()
    if histogram is not None:
        settings += histogram.tobytes()

    def kept(pair: tuple[Case, Path]) -> TrainingCase:
        """The case from its entry; a missing or damaged entry is written anew."""
        case, reference = pair
        path = cache / f"{case.id}-{_fingerprint(settings, (*case.paths.values(), reference))}.safetensors"
        try:
            return _mapped(case.id, path)
        except (FileNotFoundError, SafetensorError, LookupError):
            pass
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror or error}): choose another --cache") from error
        images, regions = _read(case, reference, task)
        regions = without_label_dust(regions, task) if clean else regions
        _keep(path, training_case(case.id, images, regions, normalisation, histogram, spacing))
        return _mapped(case.id, path)

    remove_leftovers(cache)
    with ThreadPoolExecutor(usable_cores()) as pool:
        return tuple(pool.map(kept, cases))


def _on_grid(case: TrainingCase, spacing: int) -> TrainingCase:
    """The case with voxels of `spacing` mm: means of the images; a region needs at least half of a voxel."""
    if spacing == 1:
        return case
    image = coarser(case.image.float(), spacing).to(torch.float16)
    regions = coarser(case.regions.float(), spacing) >= 0.5
    return TrainingCase.of_arrays(case.id, image.numpy(), regions.numpy())


def _fingerprint(settings: bytes, paths: Iterable[Path]) -> str:
    """A hash of the settings and of each file's path, size and time. Raises CaseError for a missing file."""
    digest = hashlib.sha256(settings)
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:  # a link without its target, for example
            reason = pointer_remedy(path) or f"cannot be read ({error.strerror}): copy it again"
            raise CaseError(f"{path}: {reason}") from error
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _keep(path: Path, case: TrainingCase) -> None:
    """Writes a case into the cache, whole or not at all."""
    centres = {f"{CENTRES_OF}{n}": torch.from_numpy(voxels) for n, voxels in enumerate(case.centres)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save({"image": case.image, "regions": case.regions, **centres}))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): choose another --cache") from error


def _mapped(case_id: str, path: Path) -> TrainingCase:
    """A case of the cache, memory-mapped. The file is closed: systems limit the number of open files."""
    stored = load_file(path)
    centres = (stored[name].numpy() for name in sorted(stored) if name.startswith(CENTRES_OF))
    return TrainingCase(case_id, stored["image"], stored["regions"], tuple(centres))


def _some_voxels(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(N, 3): up to CENTRES voxels of a mask (X, Y, Z), drawn evenly; the same mask gives the same voxels."""
    flat = np.flatnonzero(mask)
    if len(flat) > CENTRES:
        flat = np.random.default_rng(0).choice(flat, CENTRES, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int32)


def _read(case: Case, reference: Path, task: Task) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(C, X, Y, Z) raw images and (R, X, Y, Z) masks on the canonical crop. Raises CaseError."""
    cropped = crop_to_brain(read_case(case))
    grid = cropped.restore.geometry
    labels = on_grid(read_reference(reference, task), reference, grid, "the images", "use the label map of this case")
    for warning in labels.warnings:
        log.warning("warning: %s", warning)
    return cropped.images, regions_from_labels(crop_labels(labels.data, cropped.restore), task)


def training_case(
    case_id: str,
    images: NDArray[np.float32],
    regions: NDArray[np.bool_],
    normalisation: Normalisation,
    histogram: NDArray[np.float32] | None,
    spacing: int,
) -> TrainingCase:
    """The case of raw images (C, X, Y, Z) and masks (R, X, Y, Z) at 1 mm.

    Raises CaseError for intensities beyond float16.
    """
    brain = (images != 0).any(axis=0)
    image = network_input(images, brain, normalisation, histogram, foreground=True)
    if np.abs(image).max() > np.finfo(np.float16).max:
        raise CaseError(f"{case_id}: intensities beyond float16: choose another normalisation than {normalisation}")
    return _on_grid(TrainingCase.of_arrays(case_id, image.astype(np.float16), regions), spacing)
