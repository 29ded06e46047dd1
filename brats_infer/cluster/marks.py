"""Marks: hidden files in the output folder, by which the machines of a run tell that they see the same folder."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from model.atomic import locked_file


@dataclass(frozen=True)
class Mark:
    """A hidden file in a folder. Workers hold a lock on it while they live."""

    path: Path
    handle: int

    def wait_for_holders(self, seconds: float) -> None:
        """Waits until the last process that holds the mark has ended, but not longer than `seconds`.

        A process that is killed ends only after its last write, so its files may change until then.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # a file system without locks
                return
            else:
                fcntl.flock(self.handle, fcntl.LOCK_SH)
                return


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[Mark]:
    """Marks a folder within the `with` block. Raises OSError."""
    handle, path = locked_file(folder)
    try:
        with contextlib.suppress(OSError):  # not every file system has locks, or modes
            fcntl.flock(handle, fcntl.LOCK_SH)
            path.chmod(0o644)
        yield Mark(path, handle)
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def hold_mark(mark: Path) -> IO[bytes]:
    """Holds the mark of another process until this one ends or closes the file. Raises FileNotFoundError."""
    stream = mark.open("rb")
    with contextlib.suppress(OSError):  # not every file system has locks
        fcntl.flock(stream, fcntl.LOCK_SH)
    return stream
