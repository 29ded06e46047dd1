"""A file is whole under its name, or what was there before still is."""

import errno
import fcntl
import os
import signal
import stat
import time
from pathlib import Path
from threading import Thread

import pytest

from model import atomic
from model.atomic import PREFIX, alone_in, remove_leftovers, write_atomically


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["fsync", "fdopen"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_failure_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_system_that_cannot_flush_folders_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = os.fsync

    def files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        flush(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "file", b"new")


def test_leftovers_of_a_killed_run_are_removed_and_the_file_of_a_live_one_is_not(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # a run that is killed while it writes
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(tmp_path / "killed", b"half")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(PREFIX)

    def other_run_starts(_: int) -> None:
        if len(list(tmp_path.iterdir())) > 1:
            remove_leftovers(tmp_path)
            assert leftover not in tmp_path.iterdir()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", other_run_starts)
        write_atomically(tmp_path / "live", b"whole")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"live": b"whole"}


@pytest.mark.parametrize(
    ("machine", "age", "stays"), [(None, 0, False), ("0123abcd", 3500, True), ("0123abcd", 3700, False)]
)
def test_another_machines_file_may_be_of_a_live_run_whatever_its_lock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str | None, age: int, stays: bool
) -> None:
    if machine:
        (tmp_path / "boot").write_text(f"{machine}-89ab\n")
        monkeypatch.setattr(atomic, "BOOT", tmp_path / "boot")
    handle, path = atomic.locked_file(tmp_path)
    os.close(handle)
    left = tmp_path / "left" / path.name
    left.parent.mkdir()
    left.touch()
    os.utime(left, (time.time() - age,) * 2)
    monkeypatch.undo()
    remove_leftovers(left.parent)
    assert left.exists() == stays


def test_modes_and_the_machines_name_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(atomic, "BOOT", tmp_path / "none")
    write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_that_another_run_took_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = fcntl.flock, []

    def late(handle: int, how: int) -> None:
        calls.append(handle)
        if len(calls) == 1:  # between the file's making and its lock
            next(tmp_path.iterdir()).unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_atomically(tmp_path / "file", b"whole")
    assert len(calls) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": b"whole"}


def test_other_peoples_files_are_no_leftovers(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    (tmp_path / "file").touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "absent")
    assert len(list(tmp_path.iterdir())) == 2


def test_lock_of_a_folder_is_refused_or_waited_for(tmp_path: Path) -> None:
    folder, order = tmp_path / "new" / "folder", []

    def second() -> None:
        with alone_in(folder, wait=True):
            order.append("second")

    with alone_in(folder):
        with pytest.raises(BlockingIOError), alone_in(folder):
            pass
        waiting = Thread(target=second)
        waiting.start()
        waiting.join(0.1)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]


def test_file_system_without_locks_lets_everybody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    inside = 0
    with alone_in(tmp_path), alone_in(tmp_path, wait=True):
        inside += 1
    assert inside == 1
