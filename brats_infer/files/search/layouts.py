"""The cases of one folder, from the names of its images: the challenges', the field's, and nnU-Net's numbers."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brats_infer.files.cases import ID_RULE, is_safe_id
from brats_infer.files.search.names import (
    Name,
    Rank,
    contrast_in,
    contrast_named,
    is_label,
    parse_number,
    parse_stem,
    stem_of,
)
from brats_infer.files.search.tree import Folder, format_of
from brats_infer.tasks import MODALITIES, Modality, Task, task_of_id

LABELS_FOLDER = "labels"  # labelsTr beside imagesTr
DATASET = "dataset.json"  # of nnU-Net, it names the channels
MOST_NAMED = 4  # files in a message
LAYOUT = "expected {ID}/{ID}-t1n.nii.gz, -t1c, -t2w and -t2f (or _t1, _t1ce, _t2 and _flair), one folder a case"
NO_CONTRAST = f"its name ends in no contrast: {LAYOUT}"
NOT_WANTED = "its challenge does not take this contrast"
OTHER_TAKEN = "another file of its case has the better name"
DERIVED = "it seems to be made of a case beside it"
GIVE_CHANNELS = "give --channels with the contrasts in the order of the numbers, for example t1n,t1c,t2w,t2f"


@dataclass
class Group:
    """The images of one case in one folder."""

    case_id: str
    folder: Path
    files: dict[str, list[Path]] = field(default_factory=dict)
    """{contrast: files}, in the order of `MODALITIES`; more than one file is a problem."""
    task: Task | None = None
    """The task of all cases; None: the one that the ID tells, if it does."""
    rank: Rank = Rank.OFFICIAL
    """Of the least sure name."""
    meant: list[tuple[str, str]] = field(default_factory=list)
    """[(file name, remedy)]: files of the folder that may be a lacking contrast."""
    numbered: bool = False
    """Whether the names hold numbers that tell no contrast."""
    channels: tuple[str, ...] = ()
    """The contrasts of the volumes of a 4-D image."""

    @property
    def wanted(self) -> tuple[Modality, ...]:
        """The contrasts of its task; all of them if no task is known."""
        task = self.task or task_of_id(self.case_id)
        return task.modalities if task else MODALITIES

    @property
    def lacking(self) -> list[str]:
        return [modality.name for modality in self.wanted if modality.name not in self.files]

    @property
    def unused(self) -> list[Path]:
        """Images of contrasts that its task does not take."""
        taken = [path for modality in self.wanted for path in self.files.get(modality.name, [])]
        return [path for paths in self.files.values() for path in paths if path not in taken]

    @property
    def is_incomplete(self) -> bool:
        """Whether the case's problem is that it lacks a contrast."""
        return bool(self.lacking) and not self.numbered and is_safe_id(self.case_id)

    @property
    def problem(self) -> str | None:
        """Why the case cannot be used, by its names alone."""
        if not is_safe_id(self.case_id):
            shown = repr(self.case_id if len(self.case_id) <= 57 else self.case_id[:54] + "...")
            return f"{self.folder}: the case ID {shown} cannot be a file name: {ID_RULE}"
        if self.numbered:
            return f"{self.folder}: the numbers of {self.case_id}_0000 and so on tell no contrast: {GIVE_CHANNELS}"
        if self.lacking:
            return self._lacks()
        for name in (modality.name for modality in self.wanted):
            paths = self.files[name]
            if len(paths) > 1:
                listed = ", ".join(path.name for path in paths)
                return f"{self.folder}: {self.case_id} has {name} twice ({listed}): remove one"
        return None

    def _lacks(self) -> str:
        found = ", ".join(path.name for paths in self.files.values() for path in paths)
        lacks = f"{self.folder}: {self.case_id} lacks {', '.join(self.lacking)} (found {found})"
        if not self.meant:
            return f"{lacks}: {LAYOUT}"
        named = "; ".join(f"{name} {remedy}" for name, remedy in self.meant[:MOST_NAMED])
        more = len(self.meant) - MOST_NAMED
        return f"{lacks}: {named}" + (f"; and {more} more" if more > 0 else "")


@dataclass
class Grouped:
    """The images of one folder."""

    groups: list[Group] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    """{image that no case takes: why}, without label maps."""


def group(folder: Folder, channels: Sequence[str], in_one_image: bool = False, task: Task | None = None) -> Grouped:
    """The cases of a folder, by the names of its images. `channels` are the contrasts of numbered files, in order.

    `in_one_image`: where no name tells a contrast or a number, each image holds all channels (4-D). `task` is that of
    all cases; None: each ID tells its own.
    """
    done = Grouped()
    named: dict[str, list[tuple[Name, Path]]] = defaultdict(list)
    stems = {path: stem for name, path in folder.images.items() if (stem := stem_of(name)) and not is_label(stem)}
    numbers = _numbered(stems)
    for path, stem in stems.items():
        if path in numbers:
            case_id, number = numbers[path]
            contrast = channels[number] if number < len(channels) else ""
            if contrast:
                named[case_id].append((Name(case_id, contrast, Rank.KNOWN), path))
            elif channels:
                done.left_out[path] = f"its number {number:04} is none of the {len(channels)} channels"
            elif not any(case_id == each.case_id for each in done.groups):
                done.groups.append(Group(case_id, folder.path, numbered=True))
        elif name := parse_stem(stem):
            named[name.case_id].append((name, path))
        else:
            done.left_out[path] = NO_CONTRAST
    for case_id, found in named.items():
        _add(done, Group(case_id, folder.path, task=task), found)
    _without_derived(done)
    _without_parts(done)
    if in_one_image and not done.groups and not numbers and not folder.path.name.lower().startswith(LABELS_FOLDER):
        for path in done.left_out:
            files = {modality.name: [path] for modality in MODALITIES}
            done.groups.append(Group(stems[path], folder.path, files, task, Rank.KNOWN, channels=tuple(channels)))
        done.left_out.clear()
    return done


def _add(done: Grouped, group: Group, found: Iterable[tuple[Name, Path]]) -> None:
    """Adds the group of an ID. For each contrast the surest names are taken.

    Unsure names are taken only if they complete a case and no other file could be the same contrast.
    """
    ranked: dict[str, dict[Rank, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name, path in found:
        ranked[name.contrast][name.rank].append(path)
    best = {modality.name: min(ranked[modality.name]) for modality in MODALITIES if modality.name in ranked}
    single = all(len(ranked[name][rank]) == 1 for name, rank in best.items() if rank >= Rank.PROCESSED)
    if not all(modality.name in best for modality in group.wanted) or not single:
        best = {name: rank for name, rank in best.items() if rank < Rank.PROCESSED}
    for contrast, rank in best.items():
        group.files[contrast] = ranked[contrast][rank]
        group.rank = max(group.rank, rank)
    if best:
        done.groups.append(group)
    taken = {path for paths in group.files.values() for path in paths}
    for name, path in found:
        if path not in taken:
            done.left_out[path] = OTHER_TAKEN if name.contrast in group.files else NO_CONTRAST


def is_known(name: str) -> bool:
    """Whether a name is the case ID of a challenge."""
    return task_of_id(name) is not None


def _without_derived(done: Grouped) -> None:
    """Leaves out files that a program derived from a case, for example `BraTS-GLI-00001-000-brain`."""
    whole = tuple(f"{each.case_id}{mark}" for each in done.groups if is_known(each.case_id) for mark in "-_. ")
    for each in list(done.groups):
        if each.case_id.startswith(whole) and not is_known(each.case_id):
            done.groups.remove(each)
            done.left_out |= {path: DERIVED for paths in each.files.values() for path in paths}


def _without_parts(done: Grouped) -> None:
    """Takes an incomplete group for part of another one that its ID goes on from: `sub-01_acq-gd` of `sub-01`."""
    incomplete = [each for each in done.groups if each.is_incomplete]
    wholes = tuple(f"{each.case_id}{mark}" for each in incomplete for mark in "-_. ")
    for each in incomplete:
        if each.case_id.startswith(wholes) and not is_known(each.case_id):
            done.groups.remove(each)
            done.left_out |= {path: NO_CONTRAST for paths in each.files.values() for path in paths}


def find_meant(group: Group, spare: Mapping[str, Path], others: Sequence[str], alone: bool) -> list[Path]:
    """Sets `group.meant`: the files of its folder that may be a lacking contrast; returns the images among them.

    `spare` are the images that no case takes, {name: file}; `others` the names of other files; `alone` says whether the
    folder holds no other case.
    """
    likely: list[tuple[str, str]] = []
    unlikely: list[tuple[str, str]] = []
    for name in spare:
        if alone or name.startswith(group.case_id):
            contrast = contrast_in(stem_of(name) or "")
            is_likely = contrast is not None and contrast.name in group.lacking
            suffix = contrast.suffixes[0] if contrast and is_likely else f"-{group.lacking[0]}"
            remedy = f"is under a name that is not known: rename it to {group.case_id}{suffix}.nii.gz if it is that"
            (likely if is_likely else unlikely).append((name, remedy))
    chosen = likely or unlikely
    group.meant = chosen + [(name, what) for name in others if (what := _remedy(name, group.case_id))]
    return [spare[name] for name, _ in chosen]


def _remedy(name: str, case_id: str) -> str | None:
    """What to do about a file that is no image but has the name of one; None for any other file."""
    kind = format_of(name)
    if kind and name.startswith(case_id):
        return f"is no NIfTI file: {kind[1]}"
    if (stem := stem_of(name)) is not None and parse_stem(stem):
        return "is a folder that holds no single image: put one .nii.gz of that name there instead"
    return None


def _numbered(stems: dict[Path, str]) -> dict[Path, tuple[str, int]]:
    """{path: (ID, number)} of files of nnU-Net, which number a case's channels from 0000."""
    found = {path: parsed for path, stem in stems.items() if (parsed := parse_number(stem))}
    numbers: dict[str, set[int]] = defaultdict(set)
    for case_id, number in found.values():
        numbers[case_id].add(number)
    return {path: each for path, each in found.items() if 0 in numbers[each[0]] and len(numbers[each[0]]) > 1}


def channels_beside(folder: Folder, look_above: bool, follow: bool) -> tuple[str, ...]:
    """The contrasts of a folder's numbered files, from a dataset.json in it or above it; () if none tells all four.

    `follow` says whether that file may be a link.
    """
    if not any(parse_number(stem_of(name) or "") for name in folder.images):
        return ()
    for place in (folder.path, folder.path.parent) if look_above else (folder.path,):
        if (place / DATASET).is_symlink() and not follow:
            continue
        try:
            content = json.loads((place / DATASET).read_text(encoding="utf-8"))
            names = content.get("channel_names") or content["modality"]
            found = {int(number): contrast_named(str(name)) or "" for number, name in names.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        channels = tuple(found.get(number, "") for number in range(max(found, default=-1) + 1))
        if sorted(name for name in channels if name) == sorted(modality.name for modality in MODALITIES):
            return channels
    return ()
