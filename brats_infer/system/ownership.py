"""A run that starts as root becomes the owner of its output folder, so that its files do not belong to root.

For containers: their runners pass no user, and mount a folder of the user who starts them. The image sets
BRATS_OPT_BECOME_OWNER=1; otherwise root stays root. Light to import, so that it can come first: root loads nothing
heavy and reads no input.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

CASE_DEPTH = 2  # input folder, case folders, images
GPUS = (Path("/dev"), "nvidia*")


def become_owner(outputs: Sequence[Path], inputs: Iterable[Path]) -> None:
    """Becomes user and group of the first output folder (or its nearest existing parent) for good; drops groups.

    Changes nothing if the process is not root, the owner is root, or the capability to change is missing. Changes
    nothing if the owner cannot write to all `outputs`, read all `inputs` and use every GPU of the machine.
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
    """Whether root sees the path. On a network folder root may see less than the owner."""
    try:
        return path.exists()
    except OSError:
        return False


def _restore(group: int, groups: list[int]) -> None:
    """Restores root's groups if they changed: without the capability, setting even the same groups fails."""
    if os.getegid() != group:
        os.setegid(group)
    if os.getgroups() != groups:
        os.setgroups(groups)


def _readable(path: Path, depth: int) -> bool:
    """Whether the effective user may read a file, or a folder and its content; a broken link counts as readable.

    Raises PermissionError if even the type of a path is hidden.
    """
    if not path.is_dir():
        return not path.exists() or _allowed(path, os.R_OK)
    if not _allowed(path, os.R_OK | os.X_OK):
        return False
    return depth == 0 or all(_readable(entry, depth - 1) for entry in path.iterdir())


def _allowed(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=True)
