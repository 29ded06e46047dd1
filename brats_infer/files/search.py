"""Finds the cases of an input folder by their file names; opens no file."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from brats_infer.errors import NoCasesError, UsageError, printable
from brats_infer.files.cases import ID_RULE, Case, is_safe_id
from brats_infer.tasks import MODALITIES, TASKS, Task, task_named, task_of_id

log = logging.getLogger(__name__)

IMAGE_ENDINGS = (".nii.gz", ".nii")
LABELS = ("-seg", "_seg")
NO_CASE = "lost+found"  # in the top folder of a disk
MORE_THAN_A_MASK = 2  # images in a folder that may be a case with names of the user's own
BARE_NAMES = {suffix[1:] for modality in MODALITIES for suffix in modality.suffixes}
LAYOUT = "expected {ID}/{ID}-t1n.nii.gz, -t1c, -t2w and -t2f (or _t1, _t1ce, _t2 and _flair), one folder a case"


def find_cases(folder: Path, task_name: str = "auto") -> list[Case]:
    """Finds the cases in a folder, nested or flat, sorted by ID.

    `task_name` is a challenge, or "auto" to take it from each case ID. Files without a known name are ignored.
    Raises UsageError if the folder cannot be read or no ID tells its task, NoCasesError if it holds no case.
    """
    task = None if task_name == "auto" else task_named(task_name)
    cases = sorted(_without_name_clashes(_collect(folder)), key=lambda case: case.id)
    if not cases:
        raise NoCasesError(f"{folder}: holds no case: {LAYOUT}")
    plain = [case.id for case in cases if is_safe_id(case.id)]
    if plain and not task and not any(task_of_id(case.id) for case in cases):
        raise UsageError(
            f"{folder}: the case IDs ({plain[0]}, …) do not tell the challenge: give --task {'|'.join(TASKS)}"
        )
    return [_with_task(case, task) for case in cases]


def parse_name(file_name: str) -> tuple[str, str] | None:
    """(case ID, modality name) of an image file's name, or None for any other file.

    The modality and the ending may be in capitals, as in `_T1`.
    """
    stem = _stem(file_name)
    if stem is None:
        return None
    for modality in MODALITIES:
        for suffix in modality.suffixes:
            case_id, end = stem[: -len(suffix)], stem[-len(suffix) :]
            if end.lower() == suffix and case_id:
                return case_id, modality.name
    return None


def _stem(file_name: str) -> str | None:
    """An image file's name without its ending; None for any other file."""
    ending = next((e for e in IMAGE_ENDINGS if file_name.lower().endswith(e)), None)
    return None if ending is None or file_name.startswith(".") else file_name[: -len(ending)]


def _collect(root: Path) -> list[Case]:
    """A case for each ID in each folder, and a problem for each case name that leads to no image."""
    folders, odd = _walk(root)
    inside = Path(os.path.realpath(root))
    cases: list[Case] = []
    ids_below: dict[Path, set[str]] = defaultdict(set)  # at any depth
    of_cases: set[Path] = set()
    for folder, names in folders:
        found = _cases_in(folder, names, inside)
        cases += found
        for above in (folder, *folder.parents):
            ids_below[above].update(case.id for case in found)
        if folder != root and not found:
            _judge_names(folder, names, odd, in_a_case=not of_cases.isdisjoint(folder.parents))
        elif len(found) == 1:  # a folder of several cases belongs to none
            of_cases.add(folder)
    for folder, _ in folders:
        found_ids = sorted(ids_below[folder])
        if folder == root or folder in odd or not task_of_id(folder.name) or folder.name in found_ids:
            continue
        if not found_ids:
            odd[folder] = f"holds no image: {LAYOUT}"
        elif all(task_of_id(case_id) for case_id in found_ids):  # else the names may be the user's own
            odd[folder] = f"holds images of {', '.join(found_ids[:3])}, not its own: rename one"
    if cases:
        _warn_of_no_image(root, folders)
    ids = {case.id for case in cases}
    lost = {path.name: f"{path}: {what}" for path, what in odd.items() if path.name not in ids}
    return cases + [Case(case_id, None, {}, problem) for case_id, problem in lost.items()]


def _warn_of_no_image(root: Path, folders: list[tuple[Path, list[str]]]) -> None:
    """Warns of top folders without images, which may be incomplete cases. `_collect` reports known case names."""
    with_images = {above for folder, names in folders if any(map(_stem, names)) for above in (folder, *folder.parents)}
    for folder, _ in folders:
        expected = task_of_id(folder.name) or folder.name == NO_CASE or folder in with_images
        if folder.parent == root and not expected:
            log.warning("%s: is left out, it holds no image: %s", printable(str(folder)), LAYOUT)


def _judge_names(folder: Path, names: list[str], odd: dict[Path, str], in_a_case: bool) -> None:
    """A folder without a case: bare names (t1n.nii.gz) outside a case are a problem, other images cause a warning."""
    stems = [stem.lower() for name in names if (stem := _stem(name))]
    bare = bool(BARE_NAMES & set(stems))
    if bare and not in_a_case:
        odd[folder] = f"its images' names lack the case ID: {LAYOUT}"
    elif sum(not stem.endswith(LABELS) for stem in stems) >= (len(MODALITIES) if in_a_case else MORE_THAN_A_MASK):
        what = "lack the case ID" if bare else "end in no contrast"
        log.warning("%s: is left out, its images' names %s: %s", printable(str(folder)), what, LAYOUT)


def _walk(root: Path) -> tuple[list[tuple[Path, list[str]]], dict[Path, str]]:
    """([(folder, file names)], {path: problem}) below a folder; links to folders are not followed.

    A path with a problem has the name of a case, but is a link or an unreadable folder.
    """
    folders: list[tuple[Path, list[str]]] = []
    odd: dict[Path, str] = {}

    def refuse(error: OSError) -> None:
        """Handles a folder that `os.walk` cannot read."""
        folder = Path(error.filename)
        reason = f"cannot be read ({error.strerror}): check the mount and its permissions"
        if folder == root and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"{root}: is not a folder: mount or name the folder that holds the cases")
        if folder == root:
            raise UsageError(f"{root}: {reason}")
        if task_of_id(folder.name):
            odd[folder] = reason
        else:  # for example the lost+found of a disk
            log.warning("%s: is left out, it %s", printable(str(folder)), reason)

    for name, below, files in os.walk(root, onerror=refuse):
        folder = Path(name)
        below[:] = sorted(f for f in below if not f.startswith("."))
        odd |= {
            folder / f: "is a link, which is not followed: mount the folder itself"
            for f in (*below, *files)
            if task_of_id(f) and (folder / f).is_symlink()
        }
        for f in below:
            if not task_of_id(f) and (folder / f).is_symlink():
                log.warning("%s: is left out, it is a link: mount the folder itself", printable(str(folder / f)))
        folders.append((folder, sorted(f for f in files if not f.startswith("."))))
    return folders, odd


def _cases_in(folder: Path, names: list[str], inside: Path) -> list[Case]:
    groups: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name in names:
        if parsed := parse_name(name):
            case_id, modality = parsed
            groups[case_id][modality].append(folder / name)
    for case_id in _derived(groups):
        log.warning("%s: is left out, it seems to be made of a case beside it", printable(str(folder / case_id)))
        del groups[case_id]
    return [_case(case_id, folder, files, inside) for case_id, files in groups.items()]


def _derived(ids: Iterable[str]) -> list[str]:
    """IDs of files that a program derived from a case, for example `BraTS-GLI-00001-000-brain`."""
    whole = tuple(f"{case_id}{mark}" for case_id in ids if task_of_id(case_id) for mark in "-_.")
    return [case_id for case_id in ids if case_id.startswith(whole) and not task_of_id(case_id)]


def _case(case_id: str, folder: Path, files: dict[str, list[Path]], inside: Path) -> Case:
    paths = {modality.name: files[modality.name][0] for modality in MODALITIES if modality.name in files}
    leaving = [path for path in paths.values() if not Path(os.path.realpath(path)).is_relative_to(inside)]
    problem = _problem(case_id, folder, files)
    if leaving:
        problem = problem or f"{leaving[0]}: is a link that leaves the input folder: copy the file there"
    return Case(case_id, None, {name: path for name, path in paths.items() if path not in leaving}, problem)


def _problem(case_id: str, folder: Path, files: dict[str, list[Path]]) -> str | None:
    if not is_safe_id(case_id):
        shown = repr(case_id if len(case_id) <= 57 else case_id[:54] + "...")
        return f"{folder}: the case ID {shown} cannot be a file name: {ID_RULE}"
    missing = [modality.name for modality in MODALITIES if modality.name not in files]
    if missing:
        found = ", ".join(path.name for paths in files.values() for path in paths)
        return f"{folder}: {case_id} lacks {', '.join(missing)} (found {found}): {LAYOUT}"
    for name, paths in files.items():
        if len(paths) > 1:
            return f"{folder}: {case_id} has {name} twice ({', '.join(path.name for path in paths)}): remove one"
    return None


def _without_name_clashes(cases: list[Case]) -> list[Case]:
    """Marks cases that share an output name, on disks that ignore capitals: none of them is written."""
    same_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        same_name[case.output_name.lower()].append(case)
    return [case for group in same_name.values() for case in (group if len(group) == 1 else _clashing(group))]


def _clashing(group: list[Case]) -> list[Case]:
    folders = [next((path.parent for path in case.paths.values()), Path(case.id)) for case in group]
    apart = len(set(folders)) == len(folders)
    places = " and ".join(map(str, folders)) if apart else ", ".join(case.id for case in group)
    contrasts = [name for case in group for name in case.paths]
    parts_of_one = all(case.paths for case in group) and len(set(contrasts)) == len(contrasts)
    if parts_of_one and apart:
        problem = f"{group[0].id}: its contrasts lie in {len(group)} folders ({places}): put them into one"
    elif parts_of_one:
        problem = f"{folders[0]}: the IDs of one case's contrasts are not the same ({places}): rename them"
    else:
        problem = f"{group[0].id}: {places} would all be written to one {group[0].output_name}: rename all but one"
    return [replace(case, problem=problem, ambiguous=True) for case in group]


def _with_task(case: Case, task: Task | None) -> Case:
    found = task or task_of_id(case.id)
    if found is None and case.problem is None:
        return replace(case, problem=f"{case.id}: this ID does not tell the challenge: give --task {'|'.join(TASKS)}")
    return replace(case, task=found)
