"""Many cases in one run: memory does not grow from case to case."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest

from tests.faults.bench import PROGRAM, Bench, Ended, finish, start

CASES = [f"BraTS-GLI-{i:05}-000" for i in range(2, 200)]
"""Besides the two good ones of the bench."""
LIMIT = 6 * 2**30
GROWTH_MB = 20  # between the second and the last quarter; a case's images are 0.6 MB, kept they would be 60 MB


def run_many(bench: Bench, watch: Callable[[int], None]) -> Ended:
    """The bench's two cases and links to others up to 200, in one run under the limit, while `watch` sees its pid.

    The limit is one on data segments: torch reserves more address space than that without using it.
    """
    first = bench.add(CASES[0])
    for case_id in CASES[1:]:
        (bench.input / case_id).mkdir()
        for path in first.values():
            os.link(path, bench.input / case_id / path.name.replace(CASES[0], case_id))
    program = ("prlimit", f"--data={LIMIT}", *PROGRAM)
    with TemporaryFile() as stderr, start(bench.command(program=program), bench.root, stderr) as process:
        watcher = threading.Thread(target=watch, args=(process.pid,))
        watcher.start()
        ended = finish(process, stderr)
        watcher.join()
    assert ended.code == 0, ended.stderr
    bench.assert_holds(*CASES)
    return ended


def resident_mb(pid: int) -> float | None:
    """None when the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 or None


@pytest.mark.slow
def test_200_cases_within_six_gigabytes_and_without_growth(bench: Bench) -> None:
    samples: list[tuple[int, float]] = []

    def watch(pid: int) -> None:
        while megabytes := resident_mb(pid):
            samples.append((len(list(bench.output.glob("*.nii.gz"))), megabytes))
            time.sleep(0.02)

    ended = run_many(bench, watch)
    assert {path.read_bytes() for path in bench.output.iterdir()} == {bench.reference}
    maps, megabytes = np.array(samples).T
    quarters = [float(np.median(megabytes[(low <= maps) & (maps < low + 50)])) for low in (50, 100, 150)]
    print("resident MB in the second, third and last quarter:", quarters, "peak", ended.peak_mb)  # noqa: T201
    assert quarters[-1] - quarters[0] < GROWTH_MB, quarters
    assert ended.peak_mb * 2**20 < LIMIT
