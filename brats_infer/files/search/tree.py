"""Walks an input folder: its images, its links, and files that are no NIfTI images. Opens only files of a few bytes."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from brats_infer.errors import UsageError
from brats_infer.files.search.names import stem_of

NOT_FOLLOWED = "is a link, which is not followed: mount the folder itself, or give --links follow"
FEW = 20  # files that are looked into for DICOM
RAW = "give --raw, or make cases of them with brats-opt prepare"
CONVERT = "convert them to .nii.gz, for example with SimpleITK"
OTHER_FORMATS = {
    ".dcm": ("DICOM files", RAW),
    ".ima": ("DICOM files", RAW),
    ".mha": (".mha files", CONVERT),
    ".mhd": (".mhd files", CONVERT),
    ".nrrd": (".nrrd files", CONVERT),
    ".nhdr": (".nhdr files", CONVERT),
    ".hdr": ("pairs of .hdr and .img", "convert each pair to one .nii.gz, for example with nibabel"),
    ".hdr.gz": ("pairs of .hdr and .img", "convert each pair to one .nii.gz, for example with nibabel"),
    ".mgz": (".mgz files", "convert them to .nii.gz, for example with mri_convert"),
    ".mgh": (".mgh files", "convert them to .nii.gz, for example with mri_convert"),
    ".mnc": (".mnc files", "convert them to .nii.gz, for example with mnc2nii"),
    ".nii.bz2": (".nii.bz2 files", "compress them with gzip instead"),
    ".nii.zip": (".nii.zip files", "unpack them"),
    ".zip": (".zip archives", "unpack them"),
    ".tar": (".tar archives", "unpack them"),
    ".tar.gz": (".tar.gz archives", "unpack them"),
    ".tgz": (".tgz archives", "unpack them"),
    ".7z": (".7z archives", "unpack them"),
}
"""{ending: (its name in the plural, what to do)} of files that may hold images which this program does not read."""


class Links(StrEnum):
    """What becomes of links in the input folder."""

    FOLLOW = "follow"
    """They are followed wherever they lead."""
    INSIDE = "inside"
    """Links to folders are not followed, links to files only inside the input folder."""


@dataclass(frozen=True)
class Folder:
    """One folder with its images."""

    path: Path
    images: dict[str, Path]
    """{name: file}, sorted. The name is the file's own, or that of the folder `x.nii` around it (Kaggle)."""
    others: tuple[str, ...]
    """Names of other files, and of folders called like an image that hold none or several."""


@dataclass
class Tree:
    """A folder and the folders in it."""

    folders: list[Folder] = field(default_factory=list)
    odd: dict[Path, str] = field(default_factory=dict)
    """{folder or link that is not read: why}"""


def walk(root: Path, links: Links) -> Tree:
    """Every folder below `root`, without hidden ones. A folder that several links lead to comes once.

    Raises UsageError if `root` cannot be read.
    """
    tree, seen = Tree(), set[str]()
    waiting = [root]
    while waiting:  # folders first, then folders behind links: a link never hides the folder that it leads to
        start = waiting.pop(0)
        if start != root and os.path.realpath(start) in seen:
            if (target := Path(os.path.realpath(start))).name != start.name:
                tree.odd[start] = f"is a link to {target}, which is read under that name: remove the link"
            continue
        waiting += _walk_without_links(root, start, links, tree, seen)
    tree.folders.sort(key=lambda folder: folder.path)
    return tree


def _walk_without_links(root: Path, start: Path, links: Links, tree: Tree, seen: set[str]) -> list[Path]:
    """Adds the folders below `start` to the tree; returns the links to folders there, if they are to be followed."""
    behind: list[Path] = []
    for name, below, files in os.walk(start, onerror=_refusing(root, tree)):
        folder = Path(name)
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(f for f in below if not f.startswith("."))
        linked = [f for f in below if (folder / f).is_symlink()]
        images = {f: folder / f for f in sorted(files) if stem_of(f) is not None}
        others = [f for f in files if f not in images and not f.startswith(".")]
        for f in below:
            if stem_of(f) is not None and (f not in linked or links is Links.FOLLOW):
                inside = image_inside(folder / f)
                if inside is None:
                    others.append(f)
                else:
                    images[f] = inside
        tree.odd |= {
            folder / f: "is a link that leads nowhere: mend it"
            for f in others
            if (folder / f).is_symlink() and not (folder / f).exists()
        }
        below[:] = [f for f in below if f not in images and f not in linked]
        linked = [f for f in linked if f not in images]
        if links is Links.FOLLOW:
            behind += [folder / f for f in linked]
        else:
            tree.odd |= {folder / f: NOT_FOLLOWED for f in linked}
        tree.folders.append(Folder(folder, dict(sorted(images.items())), tuple(sorted(others))))
    return behind


def _refusing(root: Path, tree: Tree) -> Callable[[OSError], None]:
    """Handles a folder that `os.walk` cannot read."""

    def refuse(error: OSError) -> None:
        folder = Path(error.filename)
        reason = f"cannot be read ({error.strerror}): check the mount and its permissions"
        if folder == root and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise UsageError(f"{root}: is not a folder: mount or name the folder that holds the cases")
        if folder == root:
            raise UsageError(f"{root}: {reason}")
        tree.odd[folder] = reason

    return refuse


def image_inside(folder: Path) -> Path | None:
    """The only file of a folder that is called like an image, if it is an image; None for any other folder."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return None
    return inside[0] if len(inside) == 1 and stem_of(inside[0].name) is not None and inside[0].is_file() else None


def format_of(name: str) -> tuple[str, str] | None:
    """(kind in the plural, what to do) of a file in another format than NIfTI; None for any other file."""
    known = sorted(OTHER_FORMATS, key=len, reverse=True)
    return next((OTHER_FORMATS[ending] for ending in known if name.lower().endswith(ending)), None)


def other_formats(folders: Iterable[Folder], look_inside: bool = False) -> list[str]:
    """What lies in folders in other formats, a text for each kind: how many, the first, what to do.

    `look_inside` opens some files without an ending, which may be DICOM.
    """
    found: dict[tuple[str, str], list[Path]] = defaultdict(list)
    unknown = []
    for folder in folders:
        for name in folder.others:
            if kind := format_of(name):
                found[kind].append(folder.path / name)
            elif "." not in name or name.rpartition(".")[2].isdecimal():  # as scanners export: IM0001, 1.2.840.1
                unknown.append(folder.path / name)
    if look_inside and not found and any(map(_is_dicom, unknown[:FEW])):
        found["DICOM files", RAW] = unknown
    return [f"{len(paths)} {kind} ({paths[0]}): {remedy}" for (kind, remedy), paths in found.items()]


def _is_dicom(path: Path) -> bool:
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
