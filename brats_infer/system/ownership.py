"""Started as root, a run becomes the owner of its output folder, whose files are then that user's and not root's.

For containers, whose runners pass no user and mount a folder of whoever started them: the image asks for it
(BRATS_OPT_BECOME_OWNER=1); where nobody asks, root stays root. Light to import, so that it can come first: nothing
heavy is loaded and no input read by root.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

CASE_DEPTH = 2  # input folder, case folders, images
GPUS = (Path("/dev"), "nvidia*")


def become_owner(outputs: Sequence[Path], inputs: Iterable[Path]) -> None:
    """Becomes user and group of the first output folder (or of the nearest above it), for good; groups are dropped.

    Stays what it is where it is not root or the owner is, where it may not change (no such capability), and where the
    owner could not write to one of `outputs`, not read one of `inputs`, or not use a GPU that is there.
    """
    folders = [
        next(path for path in (output.absolute(), *output.absolute().parents) if _there(path)) for output in outputs
    ]
    owner = folders[0].stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    there = [path for path in inputs if _there(path)]
    gpus = [path for path in GPUS[0].glob(GPUS[1]) if path.is_char_device()]
    groups, group = os.getgroups(), os.getegid()
    try:
        os.setgroups([])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        works = all(_allowed(path, os.W_OK | os.X_OK) for path in folders)
        works = works and all(_allowed(path, os.R_OK | os.W_OK) for path in gpus)
        works = works and all(_readable(path, CASE_DEPTH) for path in there)
    except OSError:
        works = False
    os.seteuid(0)
    if works:
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    else:
        _restore(group, groups)


def _there(path: Path) -> bool:
    """Whether root sees it: on a network folder root may see less than the owner, who then is welcome to look."""
    try:
        return path.exists()
    except OSError:
        return False


def _restore(group: int, groups: list[int]) -> None:
    """Back to root's groups, as far as they were left: without the capability not even the same may be set."""
    if os.getegid() != group:
        os.setegid(group)
    if os.getgroups() != groups:
        os.setgroups(groups)


def _readable(path: Path, depth: int) -> bool:
    """Whether the effective user may read a file, or a folder and what is in it; a link to nothing stops nobody.

    Raises PermissionError where not even that can be told.
    """
    if not path.is_dir():
        return not path.exists() or _allowed(path, os.R_OK)
    if not _allowed(path, os.R_OK | os.X_OK):
        return False
    return depth == 0 or all(_readable(entry, depth - 1) for entry in path.iterdir())


def _allowed(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)
