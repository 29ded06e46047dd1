"""Examines a data set before training: every case is read (`brats-opt check --data`)."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brats_infer.errors import CaseError
from brats_infer.evaluate.label_maps import read_reference
from brats_infer.files.cases import Case
from brats_infer.files.geometry import size_text
from brats_infer.files.labels import read_labels
from brats_infer.files.nifti import Volume, read_case
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import crop_to_brain
from brats_infer.image.quality import check_content, oddities
from brats_infer.system.cores import usable_cores
from brats_infer.tasks import Task, of_another_challenge, patient_of
from brats_infer.train.data.labelled import references_of, without_labels


@dataclass
class Survey:
    """What `brats-opt check --data` finds in a folder of labelled cases."""

    cases: int = 0
    patients: int = 0
    """Of the cases that can be trained on."""
    left_out: list[str] = field(default_factory=list)
    """A line for each case that cannot be trained on: its ID or file, and why."""
    labels: Counter[int] = field(default_factory=Counter)
    """{label in the files: number of cases}, without the background."""
    grids: Counter[str] = field(default_factory=Counter)
    """{shape and voxel size: number of cases}"""
    odd: list[str] = field(default_factory=list)
    """Warnings of images, of empty label maps, of twins and of IDs."""

    def lines(self) -> list[str]:
        """The report, a line for each fact."""
        labels = ", ".join(f"{label} in {count}" for label, count in sorted(self.labels.items()))
        grids = ", ".join(f"{grid} in {count}" for grid, count in self.grids.most_common())
        return [
            *(f"left out: {line}" for line in self.left_out),
            *(line if line.startswith("warning: ") else f"warning: {line}" for line in self.odd),
            f"labels: {labels or 'none'}",
            f"grids: {grids or 'none'}",
            f"{self.cases} cases, {len(self.left_out)} of them left out, {self.patients} patients",
        ]


@dataclass(frozen=True)
class _Examined:
    """What the files of one case say."""

    id: str
    left_out: str | None = None
    labels: tuple[int, ...] = ()
    grid: str = ""
    odd: tuple[str, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    """(digest of the voxels, file name) of each image."""


def survey(folder: Path, task: Task) -> Survey:
    """Reads every labelled case of a folder, before a training. Raises UsageError and NoCasesError as `find_cases`."""
    cases = find_cases(folder, task.name)
    references = references_of(folder, cases)
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(lambda case: _examine(case, references.get(case.id), task), cases))
    told = of_another_challenge([case.id for case in cases], task.name)
    result = Survey(len(cases), odd=[told] if told else [])
    result.patients = len({patient_of(each.id) for each in found if each.left_out is None})
    for each in found:
        result.left_out += [each.left_out] if each.left_out else []
        result.labels.update(each.labels)
        result.grids.update([each.grid] if each.grid else [])
        result.odd += each.odd
    result.odd += _twins(found)
    return result


def _examine(case: Case, reference: Path | None, task: Task) -> _Examined:
    """Reads one case as a training run does, but goes on after a fault."""
    if case.problem or reference is None:
        return _Examined(case.id, case.problem or without_labels(case))
    labels: tuple[int, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    odd: list[str] = []
    grid = ""
    try:
        raw, geometry = read_labels(reference)
        labels = tuple(int(label) for label in np.unique(raw) if label)
        volumes = read_case(case)
        grid = _grid(volumes)
        digests = tuple((_digest(volume), path.name) for path, volume in volumes.items())
        odd = check_content(volumes)
        cropped = crop_to_brain(volumes)
        odd += oddities(volumes, cropped)
        if not labels:
            odd.append(f"{reference}: the label map is empty: check that {case.id} has no tumor")
        read_reference(reference, task)
        if difference := geometry.difference(cropped.restore.geometry, "the images"):
            raise CaseError(f"{reference}: {difference}: use the label map of this case")
    except CaseError as error:
        return _Examined(case.id, str(error), labels, grid, tuple(odd), digests)
    return _Examined(case.id, None, labels, grid, tuple(odd), digests)


def _grid(volumes: dict[Path, Volume]) -> str:
    geometry = next(iter(volumes.values())).geometry
    return f"{'x'.join(map(str, geometry.shape))} voxels of {size_text(geometry.spacing)} mm"


def _digest(volume: Volume) -> str:
    """A hash of an image's voxels, which is the same for every type of number."""
    return hashlib.sha256(np.asarray(volume.data, np.float32, order="F").tobytes(order="F")).hexdigest()


def _twins(found: Iterable[_Examined]) -> list[str]:
    """Warns of cases that hold the same image under several IDs, a line for each group of IDs."""
    ids: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for each in found:
        for digest, name in each.digests:
            ids[digest].append((each.id, name))
    groups = {tuple(sorted({case_id for case_id, _ in same})): same for same in ids.values()}
    return [
        f"{' and '.join(group)}: hold the same image ({' and '.join(name for _, name in same[:2])}): keep one of them"
        for group, same in groups.items()
        if len(group) > 1
    ]
