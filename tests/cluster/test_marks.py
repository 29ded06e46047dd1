"""A mark is held by the workers of a run, and their end is waited for."""

import os
import signal
import time
from pathlib import Path

import pytest

from brats_infer.cluster.marks import hold_mark, marked
from model.atomic import remove_leftovers


def test_end_of_a_process_that_holds_a_mark_is_waited_for(tmp_path: Path) -> None:
    with marked(tmp_path) as mark:
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go[1])  # so that it ends with the test, should that fail
            _held = hold_mark(mark.path)
            os.write(ready[1], b"1")
            os.read(go[0], 1)
            time.sleep(0.2)
            (tmp_path / "its last file").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        os.read(ready[0], 1)
        begun = time.monotonic()
        mark.wait_for_holders(0.1)
        assert time.monotonic() - begun >= 0.1
        os.write(go[1], b"1")
        mark.wait_for_holders(60)
        assert (tmp_path / "its last file").exists()
        os.waitpid(child, 0)
        remove_leftovers(tmp_path)
        assert mark.path.exists()
    assert not mark.path.exists()
    with pytest.raises(FileNotFoundError):
        hold_mark(mark.path)
