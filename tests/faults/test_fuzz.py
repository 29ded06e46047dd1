"""Damaged files by the thousand, and those kept from earlier hunts, through the reader under limits."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.bench import ROOT
from tests.faults.fuzz import MEMORY, ending
from tests.faults.mutations import damaged

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def fuzz(*args: object) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which the limits may end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", *(str(arg) for arg in args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_few_hundred_damaged_files_are_read_or_refused() -> None:
    done = fuzz("--files", 400)
    assert done.returncode == 0, done.stderr
    kinds = {line.split(maxsplit=1)[1]: int(line.split()[0]) for line in done.stdout.splitlines()}
    assert sum(kinds.values()) == 400
    assert len(kinds) > 8, "the damages are of many kinds"
    assert kinds["valid"] > 20, "and leave some files whole"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 21000, 5000))
def test_twenty_thousand_damaged_files_are_read_or_refused(first: int) -> None:
    done = fuzz("--files", 5000, "--first", first)
    assert done.returncode == 0, done.stderr


def test_what_earlier_hunts_found_is_read_or_refused() -> None:
    done = fuzz("--replay", *CORPUS)
    assert done.returncode == 0, done.stderr
    assert sum(int(line.split()[0]) for line in done.stdout.splitlines()) == len(CORPUS) > 10


def test_the_same_number_gives_the_same_file() -> None:
    assert damaged(7) == damaged(7)
    assert damaged(7) != damaged(8)


@pytest.mark.parametrize("fault", ["raise ValueError", "while True: pass", f"bytes({2 * MEMORY})", "os.abort()"])
def test_the_hunt_ends_at_another_exception_a_hang_a_gigabyte_or_a_crash(fault: str) -> None:
    """What it looks for is found, should it be there."""
    code = (
        "import os, sys\nfrom tests.faults import fuzz\n"
        f"def broken(path):\n    {fault}\n    raise SystemExit(0)\n"
        "fuzz.read_volume = broken\nsys.argv[1:] = ['--files', '1']\nfuzz.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert done.returncode != 0


def test_kinds_of_endings_hold_no_names_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "1.nii").write_bytes(b"")
    assert ending(tmp_path / "1.nii") == "the file is empty copy it again"
