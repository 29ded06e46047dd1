"""Files that only point to their content: git-annex, Git LFS."""

import os
from pathlib import Path

LARGEST_POINTER = 1024  # bytes


def pointer_remedy(path: Path) -> str | None:
    """What to do about a file that only points to its content (git-annex, Git LFS); None for any other file."""
    try:
        if path.is_symlink() and not path.exists():
            return _remedy(os.fsencode(path.readlink()))
        if not 0 < path.stat().st_size <= LARGEST_POINTER:
            return None
        return _remedy(path.read_bytes())
    except OSError:  # the reader says why
        return None


def _remedy(content: bytes) -> str | None:
    """As `pointer_remedy`, for the first bytes of a file or the target of a link."""
    if content.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer without its image: run git lfs pull in its folder"
    target = content.split(b"\n", 1)[0]
    if b"annex/objects/" in target and b"\0" not in target:
        return "is a git-annex pointer without its image: run git annex get or datalad get in its folder"
    return None
