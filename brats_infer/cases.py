"""From an input folder to its cases: paths only, nothing is opened."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from brats_infer.errors import NoCasesError, UsageError
from brats_infer.tasks import MODALITIES, TASKS, Task, task_named, task_of_id

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
IMAGE_ENDINGS = (".nii.gz", ".nii")
LAYOUT = "expected {ID}/{ID}-t1n.nii.gz, -t1c, -t2w and -t2f (or _t1, _t1ce, _t2 and _flair), one folder a case"


@dataclass(frozen=True)
class Case:
    """One patient's images, or the reason why they cannot be used."""

    id: str
    task: Task | None
    """None where the ID does not say and no task was asked for."""
    paths: dict[str, Path]
    """{modality name: file}, in the order of the task's modalities."""
    problem: str | None = None
    """One line that says what is wrong; such a case is reported as failed, never dropped."""

    @property
    def output_name(self) -> str:
        return f"{self.id}.nii.gz"


def find_cases(folder: Path, task_name: str = "auto") -> list[Case]:
    """Finds the cases in a folder, nested or flat, sorted by ID.

    `task_name` is a challenge, or "auto": each case by its own ID. What is no image of a known name is ignored.
    Raises UsageError if the folder cannot be read or no ID tells its task, NoCasesError if it holds no case.
    """
    task = None if task_name == "auto" else task_named(task_name)
    cases = [_with_task(case, task) for case in _without_name_clashes(_collect(folder))]
    if not cases:
        raise NoCasesError(f"{folder}: holds no case: {LAYOUT}")
    if all(case.task is None for case in cases):
        raise UsageError(
            f"{folder}: the case IDs ({cases[0].id}, …) do not tell the challenge: give --task {'|'.join(TASKS)}"
        )
    return sorted(cases, key=lambda case: case.id)


def is_safe_id(case_id: str) -> bool:
    """Whether a case ID can be a file name in the output folder, and nothing else."""
    return bool(SAFE_ID.fullmatch(case_id)) and ".." not in case_id


def parse_name(file_name: str) -> tuple[str, str] | None:
    """(case ID, modality name) of an image file's name, or None if it is not one."""
    ending = next((e for e in IMAGE_ENDINGS if file_name.endswith(e)), None)
    if ending is None or file_name.startswith("."):
        return None
    stem = file_name.removesuffix(ending)
    for modality in MODALITIES:
        for suffix in modality.suffixes:
            if stem.endswith(suffix) and stem != suffix:
                return stem.removesuffix(suffix), modality.name
    return None


def _collect(root: Path) -> list[Case]:
    """Every group of images with one folder and one ID, with what is wrong about the group."""
    groups: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    cases: list[Case] = []
    inside = root.resolve()
    for folder, links, names in _walk(root):
        cases += [
            Case(link, None, {}, f"{folder / link}: a link to a folder is not followed: mount the folder itself")
            for link in links
        ]
        for name in names:
            if parsed := parse_name(name):
                case_id, modality = parsed
                groups[folder, case_id][modality].append(folder / name)
        if task_of_id(folder.name) and not any(path == folder for path, _ in groups) and folder != root:
            groups[folder, folder.name] = defaultdict(list)
    return cases + [_case(case_id, folder, files, inside) for (folder, case_id), files in groups.items()]


def _walk(root: Path) -> list[tuple[Path, list[str], list[str]]]:
    """(folder, linked folders that look like a case, files), without following links to folders."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename}: cannot be read ({error.strerror}): check the mount and its permissions")

    if not root.is_dir():
        raise UsageError(f"{root}: is not a folder: mount or name the folder that holds the cases")
    found = []
    for name, folders, files in os.walk(root, onerror=refuse):
        folder = Path(name)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        links = [f for f in folders if (folder / f).is_symlink() and task_of_id(f)]
        found.append((folder, links, sorted(f for f in files if not f.startswith("."))))
    return found


def _case(case_id: str, folder: Path, files: dict[str, list[Path]], inside: Path) -> Case:
    names = [modality.name for modality in MODALITIES]
    paths = {name: files[name][0] for name in names if files.get(name)}
    return Case(case_id, None, paths, _problem(case_id, folder, files, inside))


def _problem(case_id: str, folder: Path, files: dict[str, list[Path]], inside: Path) -> str | None:
    if not is_safe_id(case_id):
        shown = repr(case_id if len(case_id) <= 60 else case_id[:57] + "...")
        return f"{folder}: the case ID {shown} cannot be a file name: use letters, digits, - and _ only"
    missing = [modality.name for modality in MODALITIES if not files.get(modality.name)]
    if missing:
        found = ", ".join(path.name for paths in files.values() for path in paths) or "no image"
        return f"{folder}: {case_id} lacks {', '.join(missing)} (found {found}): {LAYOUT}"
    for name, paths in files.items():
        if len(paths) > 1:
            return f"{folder}: {case_id} has {name} twice ({', '.join(path.name for path in paths)}): remove one"
        if not paths[0].resolve().is_relative_to(inside):
            return f"{paths[0]}: is a link that leaves the input folder: copy the file there"
    return None


def _without_name_clashes(cases: list[Case]) -> list[Case]:
    """Two cases with one output name: neither may be written, both are named."""
    by_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_name[case.output_name.lower()].append(case)
    for clash in by_name.values():
        if len(clash) > 1:
            places = " and ".join(sorted(str(next(iter(case.paths.values()), Path(case.id)).parent) for case in clash))
            problem = f"{clash[0].id}: found in {places}, all would be written to {clash[0].output_name}: rename one"
            yield_from = [replace(case, problem=problem) for case in clash]
            clash[:] = yield_from
    return [case for clash in by_name.values() for case in clash]


def _with_task(case: Case, task: Task | None) -> Case:
    found = task or task_of_id(case.id)
    if found is None and case.problem is None:
        return replace(case, problem=f"{case.id}: this ID does not tell the challenge: give --task {'|'.join(TASKS)}")
    return replace(case, task=found)
