"""The images of an input folder, grouped into cases, and everything that no case takes."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from brats_infer.files.cases import Case
from brats_infer.files.search.layouts import (
    LAYOUT,
    NOT_WANTED,
    OTHER_TAKEN,
    Group,
    channels_beside,
    find_meant,
    group,
    is_known,
)
from brats_infer.files.search.names import Rank, contrast_named, stem_of
from brats_infer.files.search.tree import Folder, Links, Tree, other_formats, walk
from brats_infer.tasks import Task

NO_CASE = "lost+found"  # in the top folder of a disk
FEW = 3  # lines for one reason; more are one line
NO_ID = f"its name lacks the case ID: {LAYOUT}"
ALONE = "no other image has its case ID"


@dataclass
class Found:
    """The cases of a folder, and everything in it that no case takes."""

    cases: list[Case] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    """{image, link or folder: why}"""
    others: list[str] = field(default_factory=list)
    """A text for each other format that lies there."""


def search(root: Path, links: Links = Links.FOLLOW, channels: Sequence[str] = (), task: Task | None = None) -> Found:
    """A case for each ID in each folder, and a problem for each case name that leads to no image.

    `task`, if all cases have one, tells their contrasts; otherwise their IDs do.
    Raises UsageError if the folder cannot be read.
    """
    tree = walk(root, links)
    found = Found()
    odd = {path: why for path, why in tree.odd.items() if is_known(path.name)}
    found.left_out = {path: f"it {why}" for path, why in tree.odd.items() if path not in odd}
    groups: list[Group] = []
    of_cases: set[Path] = set()
    for folder in tree.folders:
        here = group(folder, channels or _channels_of(folder, root, links), bool(channels), task)
        groups += here.groups
        left_out = {path: NO_ID if _is_bare(folder, path) else why for path, why in here.left_out.items()}
        in_a_case = not of_cases.isdisjoint(folder.path.parents)
        if folder.path != root and not here.groups and NO_ID in left_out.values() and not in_a_case:
            odd[folder.path] = f"holds images whose names lack the case ID: {LAYOUT}"
        else:
            found.left_out |= left_out
        if len(here.groups) == 1:  # a folder of several cases belongs to none
            of_cases.add(folder.path)
        for name in folder.others:
            if is_known(name) and not (folder.path / name).is_dir():
                odd.setdefault(folder.path / name, f"is a file without an ending: {LAYOUT}")
    groups = _surest(groups, found.left_out)
    _find_meant(groups, tree, found.left_out)
    _judge_known_folders(root, tree, groups, found, odd)
    found.left_out |= {path: NOT_WANTED for each in groups for path in each.unused}
    found.cases = [_case(each, Path(os.path.realpath(root)), links) for each in groups]
    ids = {each.case_id for each in groups}
    for path, what in odd.items():
        if path.name in ids:
            found.left_out[path] = f"it {what}"
        else:
            found.cases.append(Case(path.name, None, {}, f"{path}: {what}"))
    if found.cases:
        found.left_out |= _folders_without_images(root, tree)
    found.cases = _without_name_clashes(found.cases)
    found.others = other_formats(tree.folders, look_inside=not found.cases)
    return found


def _channels_of(folder: Folder, root: Path, links: Links) -> Sequence[str]:
    """The contrasts of a folder's numbered files, from dataset.json; without links never from outside the input."""
    follow = links is Links.FOLLOW
    return channels_beside(folder, look_above=follow or folder.path != root, follow=follow)


def _is_bare(folder: Folder, path: Path) -> bool:
    """Whether the name of an image of the folder is a contrast and nothing else."""
    return path.parent == folder.path and contrast_named(stem_of(path.name) or "") is not None


def _surest(groups: Sequence[Group], left_out: dict[Path, str]) -> list[Group]:
    """Of groups of one output name, the whole one with surer names than all others; without one, all of them.

    A single image under a name that no challenge uses is no case either.
    """
    same_name: dict[str, list[Group]] = defaultdict(list)
    for each in groups:
        same_name[each.case_id.lower()].append(each)
    kept = []
    for same in same_name.values():
        contrasts = [name for each in same for name in each.files]
        alone = len(same) == len(contrasts) == 1 < len(same[0].wanted)
        if alone and same[0].rank > Rank.OFFICIAL and not is_known(same[0].case_id):
            left_out |= {path: ALONE for paths in same[0].files.values() for path in paths}
            continue
        best = min(each.rank for each in same)
        sure = [each for each in same if each.rank == best]
        alone = len(sure) == 1 and sure[0].problem is None
        kept += sure if alone else same
        if alone:
            others = [each for each in same if each is not sure[0]]
            left_out |= {path: OTHER_TAKEN for each in others for paths in each.files.values() for path in paths}
    return kept


def _find_meant(groups: Sequence[Group], tree: Tree, left_out: dict[Path, str]) -> None:
    """Names in the problem of each incomplete case the files that may be its lacking contrasts."""
    cases = Counter(each.folder for each in groups)
    ids = Counter(each.case_id.lower() for each in groups)
    incomplete: dict[Path, list[Group]] = defaultdict(list)
    for each in groups:
        if each.is_incomplete and ids[each.case_id.lower()] == 1:  # else the problem is another one
            incomplete[each.folder].append(each)
    for folder in tree.folders:
        spare = {name: path for name, path in folder.images.items() if path in left_out}
        for each in incomplete[folder.path] if spare or folder.others else ():
            for path in find_meant(each, spare, folder.others, alone=cases[folder.path] == 1):
                del left_out[path]
            spare = {name: path for name, path in spare.items() if path in left_out}


def _judge_known_folders(root: Path, tree: Tree, groups: Sequence[Group], found: Found, odd: dict[Path, str]) -> None:
    """Finds the folders with the ID of a case that is not in them, nor anywhere else."""
    all_ids = {each.case_id for each in groups}
    ids_below: dict[Path, set[str]] = defaultdict(set)  # at any depth
    for each in groups:
        for above in (each.folder, *each.folder.parents):
            ids_below[above].add(each.case_id)
    contents = _contents(tree, found.left_out)
    for folder in tree.folders:
        ids = sorted(ids_below[folder.path])
        name = folder.path.name
        if folder.path == root or folder.path in odd or not is_known(name) or name in all_ids:
            continue
        if ids and all(map(is_known, ids)):  # else the names may be the user's own
            odd[folder.path] = f"holds images of {', '.join(ids[:3])}, not its own: rename one"
        elif not ids:
            odd[folder.path] = _holds_no_image(*contents[folder.path], found.left_out)


def _contents(tree: Tree, left_out: Iterable[Path]) -> dict[Path, tuple[list[Folder], list[Path]]]:
    """{folder: (itself and the folders in it, images in it that no case takes)}"""
    contents: dict[Path, tuple[list[Folder], list[Path]]] = defaultdict(lambda: ([], []))
    for folder in tree.folders:
        for above in (folder.path, *folder.path.parents):
            contents[above][0].append(folder)
    for path in left_out:
        for above in path.parents if stem_of(path.name) is not None else ():
            contents[above][1].append(path)
    return contents


def _holds_no_image(below: Sequence[Folder], images: Sequence[Path], left_out: dict[Path, str]) -> str:
    """What a case's folder holds instead of its images, which are taken out of `left_out`."""
    for path in images:
        left_out.pop(path, None)
    if images:
        return f"holds no image with a known name ({', '.join(path.name for path in images[:FEW])}): {LAYOUT}"
    return f"holds no image: {'; '.join(other_formats(below, look_inside=True)) or LAYOUT}"


def _folders_without_images(root: Path, tree: Tree) -> dict[Path, str]:
    """{top folder without an image: why}: it may be an incomplete case. Names of challenges are judged before."""
    with_images = {above for each in tree.folders if each.images for above in (each.path, *each.path.parents)}
    return {
        each.path: f"it holds no image: {LAYOUT}"
        for each in tree.folders
        if each.path.parent == root and each.path not in with_images
        if not is_known(each.path.name) and each.path.name != NO_CASE
    }


def _case(group: Group, inside: Path, links: Links) -> Case:
    paths = {modality.name: group.files[modality.name][0] for modality in group.wanted if modality.name in group.files}
    leaving: list[Path] = []
    if links is Links.INSIDE:
        leaving = [path for path in paths.values() if not Path(os.path.realpath(path)).is_relative_to(inside)]
    problem = group.problem
    if leaving:
        problem = problem or f"{leaving[0]}: is a link that leaves the input folder: copy the file there"
    paths = {name: path for name, path in paths.items() if path not in leaving}
    lacks = group.is_incomplete and not leaving
    return Case(group.case_id, None, paths, problem, lacks, channels=group.channels)


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
    return [replace(case, problem=problem, lacks=False, ambiguous=True) for case in group]
