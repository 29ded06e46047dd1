"""Files that are whole under their name, or not there."""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PREFIX = ".brats-opt-"
BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine
SURELY_LEFT_S = 3600
LOCK = ".lock"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes to a temporary name in the same folder, flushes to the disk, then renames.

    Raises OSError; then nothing new lies under the name, and what was there before still does.
    """
    handle, temporary = _locked_file(path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            with contextlib.suppress(OSError):  # not every file system has modes
                temporary.chmod(0o644)
            temporary.replace(path)  # the lock is held until it has its name
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the file is in place; not every file system lets a folder be flushed
        _flush_folder(path.parent)


def remove_leftovers(folder: Path, elsewhere_s: float = SURELY_LEFT_S) -> None:
    """Removes the temporary files of runs that were killed; those of live runs, which hold a lock on them, stay.

    Other machines know nothing of some file systems' locks: what these wrote goes only when it is `elsewhere_s` old.
    """
    here = _prefix()
    for path in folder.glob(f"{PREFIX}*"):
        elsewhere = re.match(rf"{PREFIX}[0-9a-f]{{8}}-", path.name) and not path.name.startswith(here)
        with contextlib.suppress(OSError), path.open("rb+") as stream:
            if elsewhere and time.time() - os.fstat(stream.fileno()).st_mtime < elsewhere_s:
                continue
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@dataclass(frozen=True)
class Mark:
    """A hidden file, by which other processes tell that they see the same folder; they may hold it while they live."""

    path: Path
    handle: int

    def wait_for_holders(self, seconds: float) -> None:
        """Until the last process that holds it has ended, or the time is over.

        One that is killed ends when the system has done what it asked for last: its files are not at rest before.
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
    """Marks a folder as long as this lasts. Raises OSError."""
    handle, path = _locked_file(folder)
    try:
        with contextlib.suppress(OSError):  # not every file system has locks, or modes
            fcntl.flock(handle, fcntl.LOCK_SH)
            path.chmod(0o644)
        yield Mark(path, handle)
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def hold_mark(mark: Path) -> IO[bytes]:
    """Holds the mark of another process until this one ends, or closes what is returned. Raises FileNotFoundError."""
    stream = mark.open("rb")
    with contextlib.suppress(OSError):  # not every file system has locks
        fcntl.flock(stream, fcntl.LOCK_SH)
    return stream


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds a lock on a folder, which is made where it is missing; nothing is held where the file system has no locks.

    Raises OSError, of which BlockingIOError means that another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield


def _locked_file(folder: Path) -> tuple[int, Path]:
    """(handle, name) of a new file that no other run takes for a leftover."""
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=_prefix())
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # another run removed it between its making and its lock


def _prefix() -> str:
    """Of this machine's temporary files, until it starts anew."""
    try:
        return f"{PREFIX}{BOOT.read_text(encoding='ascii')[:8]}-"
    except OSError:
        return PREFIX


def _flush_folder(folder: Path) -> None:
    """Brings a rename in it to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
