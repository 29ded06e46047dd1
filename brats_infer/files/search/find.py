"""The cases of a folder, or the case of four files, with the challenge of each."""

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from brats_infer.errors import NoCasesError, UsageError, printable
from brats_infer.files.cases import ID_RULE, Case, is_safe_id
from brats_infer.files.search.groups import FEW, NO_ID, Found, search
from brats_infer.files.search.layouts import DATASET, GIVE_CHANNELS, LAYOUT
from brats_infer.files.search.names import parse_stem, stem_of
from brats_infer.files.search.tree import Links
from brats_infer.tasks import MODALITIES, TASKS, Task, task_named, task_of_id

log = logging.getLogger(__name__)

MAP_ENDING = ".nii.gz"


def find_cases(
    folder: Path, task_name: str = "auto", links: Links = Links.FOLLOW, channels: Sequence[str] = ()
) -> list[Case]:
    """Finds the cases in a folder, nested or flat, sorted by ID. Logs a line for images that no case takes.

    `task_name` is a challenge, or "auto" to take it from each case ID. `channels` names the contrasts of files that
    nnU-Net numbers, in order.
    Raises UsageError if the folder cannot be read or no ID tells its task, NoCasesError if it holds no case.
    """
    task = None if task_name == "auto" else task_named(task_name)
    found = search(folder, links, channels, task)
    cases = sorted(found.cases, key=lambda case: case.id)
    if not cases:
        raise NoCasesError("; ".join([f"{folder}: holds no case: {LAYOUT}", *_there(folder, found)]))
    for line in lines_of(found):
        log.warning("%s", line)
    _check_ids(folder, cases, task)
    return [_with_task(case, task) for case in cases]


def case_of_files(images: Mapping[str, Path], label_map: Path, task_name: str = "auto", whole: bool = True) -> Case:
    """The case of a file for each contrast, {contrast: file}, whose ID is the name of its label map.

    Unless `whole`, it may lack contrasts; they are its problem. `task_name` "auto" takes the challenge from that ID or
    from the files' names. Raises UsageError for files that cannot be one case, and for a task that is not told.
    """
    if not label_map.name.endswith(MAP_ENDING) or not is_safe_id(case_id := label_map.name.removesuffix(MAP_ENDING)):
        raise UsageError(f"--output {label_map}: is no name of a label map ({ID_RULE}): give a file {{ID}}.nii.gz")
    names = [parse_stem(stem_of(path.name) or "") for path in images.values()]
    ids = [case_id, *(name.case_id for name in names if name)]
    task = task_named(task_name) if task_name != "auto" else next(filter(None, map(task_of_id, ids)), None)
    wanted = task.modalities if task else MODALITIES
    lacking = [modality.name for modality in wanted if modality.name not in images]
    if lacking and (whole or not images):
        raise UsageError(f"--{lacking[0]}: is missing: give one file for each contrast, or --missing use")
    paths = {modality.name: images[modality.name] for modality in wanted if modality.name in images}
    real = [os.path.realpath(path) for path in (*paths.values(), label_map)]
    if twice := next((path for path in real if real.count(path) > 1), None):
        raise UsageError(f"{twice}: is given twice: name four images, and another file as --output")
    if task is None:
        raise UsageError(f"{label_map}: its name does not tell the challenge: give --task {'|'.join(TASKS)}")
    problem = f"{case_id}: lacks {', '.join(lacking)}" if lacking else None
    return Case(case_id, task, paths, problem, lacks=bool(lacking))


def lines_of(found: Found) -> list[str]:
    """The warnings of what no case takes: one a file, or one a reason if there are many."""
    reasons: dict[str, list[Path]] = defaultdict(list)
    for path, why in found.left_out.items():
        reasons[why].append(path)
    lines = []
    for why, paths in reasons.items():
        if len(paths) <= FEW:
            lines += [f"{path}: is left out, {why}" for path in paths]
        else:
            lines.append(f"{len(paths)} are left out ({', '.join(map(str, paths[:FEW]))}, …), of each: {why}")
    return [printable(f"warning: {line}") for line in (*lines, *(f"left out are {other}" for other in found.others))]


def _there(root: Path, found: Found) -> list[str]:
    """What lies in a folder without a case, and what to do about it."""
    texts = list(found.others)
    bare = [path for path, why in found.left_out.items() if why == NO_ID and path.parent == root]
    if bare:
        names = ", ".join(path.name for path in bare[:FEW])
        texts.append(
            f"{len(bare)} names lack the case ID ({names}): rename them, or give --t1n, --t1c, --t2w and --t2f"
        )
    others = {path: why for path, why in found.left_out.items() if path not in bare}
    if others and (root / DATASET).exists():
        texts.append("if each image holds all contrasts (4-D, Medical Segmentation Decathlon), give --channels")
    texts += lines_of(Found(left_out=others))
    return texts


def _check_ids(folder: Path, cases: Sequence[Case], task: Task | None) -> None:
    """Raises UsageError if no case can be segmented, for a reason that one option would mend."""
    plain = [case for case in cases if is_safe_id(case.id)]
    if plain and all(str(case.problem).endswith(GIVE_CHANNELS) for case in plain):
        raise UsageError(f"{plain[0].problem}")
    if not plain or task or any(task_of_id(case.id) for case in cases):
        return
    raise UsageError(
        f"{folder}: the case IDs ({plain[0].id}, …) do not tell the challenge: give --task {'|'.join(TASKS)}"
    )


def _with_task(case: Case, task: Task | None) -> Case:
    found = task or task_of_id(case.id)
    if found is None and case.problem is None:
        return replace(case, problem=f"{case.id}: this ID does not tell the challenge: give --task {'|'.join(TASKS)}")
    return replace(case, task=found)
