"""Files that are whole under their name, or not there."""

import contextlib
import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Writes to a temporary name in the same folder, flushes to the disk, then renames.

    Raises OSError; then nothing new lies under the name, and what was there before still does.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".brats-opt-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the file is in place; not every file system lets a folder be flushed
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Brings a rename in it to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
