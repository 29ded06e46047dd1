"""Atomic writes of files, and locks on folders."""

import contextlib
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".brats-opt-"
BOOT = Path("/proc/sys/kernel/random/boot_id")  # one ID for all containers of a machine
SURELY_LEFT_S = 3600
LOCK = ".lock"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes to a temporary name in the same folder, flushes to the disk, then renames.

    Raises OSError; an older file of that name is then unchanged.
    """
    handle, temporary = locked_file(path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            with contextlib.suppress(OSError):  # not every file system has modes
                temporary.chmod(0o644)
            temporary.replace(path)  # still locked
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # the file is in place; some file systems cannot flush a folder
        _flush_folder(path.parent)


def remove_leftovers(folder: Path, elsewhere_s: float = SURELY_LEFT_S) -> None:
    """Removes the temporary files of killed runs. Live runs lock their files, so these stay.

    Some file systems share no locks between machines: another machine's file stays until it is `elsewhere_s` old.
    """
    here = _prefix()
    for path in folder.glob(f"{PREFIX}*"):
        elsewhere = re.match(rf"{PREFIX}[0-9a-f]{{8}}-", path.name) and not path.name.startswith(here)
        with contextlib.suppress(OSError), path.open("rb+") as stream:
            if elsewhere and time.time() - os.fstat(stream.fileno()).st_mtime < elsewhere_s:
                continue
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextlib.contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a folder, which is made where it is missing. Without locks in the file system, holds nothing.

    With `wait`, another holder is waited for; without, it is a BlockingIOError. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield


def locked_file(folder: Path) -> tuple[int, Path]:
    """(handle, path) of a new temporary file. Its lock tells other runs that it is no leftover. Raises OSError."""
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=_prefix())
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # another run removed it before it was locked


def _prefix() -> str:
    """The prefix of this machine's temporary files; it changes with a reboot."""
    try:
        return f"{PREFIX}{BOOT.read_text(encoding='ascii')[:8]}-"
    except OSError:
        return PREFIX


def _flush_folder(folder: Path) -> None:
    """Flushes a rename in the folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
