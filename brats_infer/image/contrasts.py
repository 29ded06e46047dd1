"""Contrasts that a case lacks: their images are 0 everywhere, as the networks saw them in training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brats_infer.errors import CaseError
from brats_infer.files.cases import Case
from brats_infer.files.nifti import Volume, on_one_grid, read_volume, with_background_0
from brats_infer.image.quality import check_content
from brats_infer.tasks import MODALITIES, T1C, T2F, Task

NEEDED = (T1C.name, T2F.name)
"""At least one of them must be there."""
MOST_ABSENT = 2


def read_present(case: Case) -> dict[Path, Volume]:
    """Reads the usable images of a case, as `read_case` does; a contrast without one is absent.

    Raises CaseError for too few usable images, and for differing grids.
    """
    if case.channels or (case.problem and not case.lacks):
        raise CaseError(case.problem or f"{case.id}: is one 4-D image: it is used whole or not at all")
    found: dict[Path, Volume] = {}
    faults: dict[str, CaseError] = {}
    for name, path in case.paths.items():
        try:
            volume = with_background_0(path, read_volume(path))
            check_content({path: volume})
            found[path] = volume
        except CaseError as error:
            faults[name] = error
    images = {name: path for name, path in case.paths.items() if path in found}
    if not is_enough(images, case.task):
        raise next(iter(faults.values()), CaseError(case.problem or ""))
    found = on_one_grid(found)
    reasons = {name: f"{case.id}: {name} cannot be used ({fault})" for name, fault in faults.items()}
    return with_absent({name: (path, found[path]) for name, path in images.items()}, reasons, case.id, case.task)


def is_enough(names: Mapping[str, object], task: Task | None) -> bool:
    """Whether a case can be segmented from these contrasts: all but two, one at least, T1c or FLAIR among them."""
    wanted = task.modalities if task else MODALITIES
    return len(names) >= max(1, len(wanted) - MOST_ABSENT) and any(name in names for name in NEEDED)


def with_absent(
    images: Mapping[str, tuple[Path, Volume]], reasons: Mapping[str, str], case_id: str, task: Task | None
) -> dict[Path, Volume]:
    """{file: volume} of all contrasts of a task, from those that are there, {contrast: (file, volume)} on one grid.

    `reasons` says why a contrast is absent, where it does not just lack.
    """
    path, like = next(iter(images.values()))
    nothing = np.zeros(like.geometry.shape, np.int16, order="F")
    volumes = {}
    for name in (modality.name for modality in (task.modalities if task else MODALITIES)):
        if name in images:
            file, volume = images[name]
        else:
            reason = reasons.get(name, f"{case_id}: {name} is missing")
            file, volume = path.parent / f"{name} (absent)", Volume(nothing, like.geometry, absent=reason)
        volumes[file] = volume
    return volumes
