"""The bench of the fault list: good cases with bad ones between them, the real command, and what must hold after it."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from brats_infer.files.labels import read_labels
from tests.case_files import write_case
from tests.faults.anatomy import image

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, str(ROOT / "entrypoint.py"))
GOOD = ("BraTS-GLI-00001-000", "BraTS-GLI-99999-000")
"""First and last in the folder."""
GREETING = re.compile(r"brats-opt \S+: \d+ cases?")
LIMIT_SECONDS = 240  # of a run that takes 2 s on a quiet machine; a hang is not saved by a busy one


@dataclass(frozen=True)
class Ended:
    """How a run of the command ended."""

    code: int
    stderr: str
    cpu_seconds: float
    peak_mb: float

    @property
    def lines(self) -> list[str]:
        """Without the first one, which tells the version and the number of cases."""
        return [line for line in self.stderr.strip().splitlines() if not GREETING.fullmatch(line)]

    def line_of(self, case_id: str, status: str) -> str:
        """The one line that says how a case ended."""
        (line,) = (line for line in self.lines if f"] {case_id}: {status}" in line)
        return line


def start(command: list[Any], home: Path, stderr: Any, **changes: Any) -> subprocess.Popen[bytes]:
    """The command with a home, a temporary and a working folder of its own, so that a stray file is seen."""
    for name in ("home", "tmp", "cwd"):
        (home / name).mkdir(exist_ok=True)
    own = {"HOME": home / "home", "TMPDIR": home / "tmp", "BRATS_OPT_DEVICE": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in own.items()}}
    options = {"env": {**environment, **changes.pop("env", {})}, "cwd": home / "cwd", **changes}
    return subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stderr=stderr, **options)


def finish(process: subprocess.Popen[bytes], stderr: Any) -> Ended:
    """Waits for it, under a time limit."""
    timer = threading.Timer(LIMIT_SECONDS, process.kill)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    stderr.seek(0)
    text = stderr.read().decode()
    assert process.returncode != -signal.SIGKILL, f"killed after {LIMIT_SECONDS} s: {text}"
    assert "Traceback" not in text
    return Ended(process.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@dataclass
class Bench:
    """An input folder with two good cases, weights, and an output folder that does not exist yet."""

    root: Path
    weights: Path
    reference: bytes
    """A good case's label map of an undisturbed run; they are all alike."""
    output: Path = field(init=False)
    bad: dict[str, tuple[str, str]] = field(default_factory=dict)
    """{case ID: (name of the file, reason), as the line must say}"""
    options: tuple[object, ...] = ()
    """Of every run."""

    def __post_init__(self) -> None:
        self.output = self.root / "output"
        for case_id in GOOD:
            self.add(case_id)

    @property
    def input(self) -> Path:
        return self.root / "input"

    def add(self, case_id: str, **changes: Any) -> dict[str, Path]:
        """A whole case; {modality: file}."""
        return write_case(self.input, case_id, **{"image": image, **changes})

    def spoil(self, reason: str, damage: Callable[[Path], object], modality: str = "t2w", **changes: Any) -> None:
        """A case with one file damaged, which must be told with that reason."""
        case_id = f"BraTS-GLI-{10000 + len(self.bad):05}-000"
        path = self.add(case_id, **changes)[modality]
        damage(path)
        self.bad[case_id] = (path.name, reason)

    def command(self, *args: object, program: tuple[object, ...] = PROGRAM) -> list[object]:
        given = ("--input", self.input, "--output", self.output, "--weights", self.weights)
        return [*program, *given, *self.options, *args]

    def run(self, *args: object, code: int = 0, program: tuple[object, ...] = PROGRAM, **changes: Any) -> Ended:
        """Runs it to its end: the exit code is this one, and nothing but the output folder has changed."""
        before = self.elsewhere()
        with (
            TemporaryFile() as stderr,
            start(self.command(*args, program=program), self.root, stderr, **changes) as run,
        ):
            ended = finish(run, stderr)
        assert ended.code == code, ended.stderr
        assert self.elsewhere() == before
        return ended

    def elsewhere(self) -> dict[Path, tuple[int, ...]]:
        """Everything beside the output folder, with what a write would change."""
        for name in ("home", "tmp", "cwd"):
            (self.root / name).mkdir(exist_ok=True)
        facts = {path: path.lstat() for path in (*self.root.rglob("*"), *self.weights.iterdir())}
        return {
            path: (stat.st_mode, stat.st_size, stat.st_mtime_ns)
            for path, stat in facts.items()
            if not path.is_relative_to(self.output) and path != self.root
        }

    def assert_holds(self, *case_ids: str) -> None:
        """The output folder holds the good cases' right maps and those of these cases, and nothing else."""
        found = sorted(path.name for path in self.output.iterdir())
        assert found == sorted(f"{case_id}.nii.gz" for case_id in {*GOOD, *case_ids})
        for case_id in GOOD:
            assert (self.output / f"{case_id}.nii.gz").read_bytes() == self.reference

    def assert_rejected(self) -> list[Ended]:
        """Each bad case fails with its line, or is left blank where that is asked for; the good ones are written."""
        fail, blank = self.run(code=3), self.run("--on-error", "blank", code=0)
        for ended, status in ((fail, "failed"), (blank, "blank")):
            assert_told(ended, self.bad, status)
        self.assert_holds(*self.bad)
        for case_id in self.bad:
            assert not read_labels(self.output / f"{case_id}.nii.gz")[0].any()
        return [fail, blank]


def assert_told(ended: Ended, bad: Mapping[str, tuple[str, str]], status: str) -> None:
    """One line a bad case, with file and reason, and one a good case; nothing else but warnings."""
    for case_id, (name, reason) in bad.items():
        line = ended.line_of(case_id, status)
        assert name in line
        assert reason in line
    for case_id in GOOD:
        ended.line_of(case_id, "written")
    assert len([line for line in ended.lines if not line.startswith("warning: ")]) == len(bad) + len(GOOD)


def assert_refused(ended: Ended, *texts: str) -> None:
    """A run that ended before its work, with one line."""
    (line,) = ended.lines
    assert line.startswith("brats-opt: ")
    for text in texts:
        assert text in line
