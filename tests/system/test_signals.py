"""Signals at moments of every kind, sent to the real command: documented exit code, no traceback, whole files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brats_infer.errors import Terminated
from brats_infer.phantom.write import write_cohort
from brats_infer.system.signals import held, raise_once, raising
from tests.small_networks import random_network, write_weights

ROOT = Path(__file__).parents[2]
KILL = "import os, signal, time; os.kill(os.getpid(), signal.{}); time.sleep(0.1)"
CODES = [("SIGTERM", 143), ("SIGINT", 130)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    list(write_cohort(folder / "input", "gli", 3, seed=1, shape=(30, 34, 26)))
    (folder / "weights").mkdir()
    write_weights(folder / "weights", [random_network(seed=5)])
    return folder


def run(folder: Path, output: Path, stub: str = "", code: str = "") -> subprocess.CompletedProcess[str]:
    """The command with the module `stub` replaced by `code`, or, without a stub, with `code` run before it."""
    args = ["--input", folder / "input", "--output", output, "--weights", folder / "weights", "--device", "cpu"]
    stubs = output.parent / "stubs"
    stubs.mkdir()
    if stub:
        (stubs / f"{stub}.py").write_text(code)
        program = [ROOT / "entrypoint.py"]
    else:
        (stubs / "changed.py").write_text(f"{code}\nfrom brats_infer.cli import main\nmain()\n")
        program = [stubs / "changed.py"]
    return subprocess.run(
        [sys.executable, *program, *args],
        env={**os.environ, "PYTHONPATH": f"{stubs}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> tuple[int, bool, bool]:
    return done.returncode, "--resume" in done.stderr, "Traceback" in done.stderr


@pytest.mark.parametrize(("name", "code"), CODES)
@pytest.mark.parametrize("module", ["click", "torch"])
def test_a_signal_in_an_import_that_swallows_exceptions_ends_the_run(
    folder: Path, tmp_path: Path, module: str, name: str, code: int
) -> None:
    swallow = (
        f"try:\n    {KILL.format(name)}\nexcept BaseException:\n    raise ImportError('something else') from None\n"
    )
    assert told(run(folder, tmp_path / "out", module, swallow)) == (code, True, False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "code"), CODES)
def test_two_signals_at_once_are_one(folder: Path, tmp_path: Path, name: str, code: int) -> None:
    twice = f"""
import time
from brats_infer.run.case import CaseRun
finish = CaseRun.finish
def slow(*args):
    {KILL.format(name)}
    {KILL.format(name)}
    time.sleep(0.2)
    {KILL.format(name)}
    return finish(*args)
CaseRun.finish = slow
"""
    assert told(run(folder, tmp_path / "out", code=twice)) == (code, True, False)
    assert all(path.name.endswith("-000.nii.gz") for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_after_the_last_case_does_not_change_how_the_run_ended(
    folder: Path, tmp_path: Path, name: str
) -> None:
    late = f"import atexit\ndef leave():\n    {KILL.format(name)}\natexit.register(leave)\n"
    assert told(run(folder, tmp_path / "out", code=late)) == (0, False, False)
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_what_a_shell_in_the_background_ignores_stays_ignored() -> None:
    code = f"""
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from brats_infer.system.signals import end_at_once, raise_once
raise_once()
with end_at_once():
    {KILL.format("SIGINT")}
{KILL.format("SIGINT")}
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("fails", [False, True])
def test_signal_waits_for_a_library_that_must_not_be_interrupted(fails: bool) -> None:
    began = []

    def call_library() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as the library does
        signal.raise_signal(signal.SIGTERM)
        began.append("ended")
        if fails:
            raise OSError("what it started has had the signal too")

    raise_once()
    with pytest.raises(Terminated), held():
        call_library()
    assert began == ["ended"]


def test_what_raised_once_raises_no_second_time_after_its_part() -> None:
    raise_once()
    with pytest.raises(KeyboardInterrupt), raising():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)


def test_a_part_without_a_signal_leaves_what_was_there() -> None:
    before = signal.getsignal(signal.SIGINT)
    with raising():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
