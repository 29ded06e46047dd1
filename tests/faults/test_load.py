"""Many cases in one run: memory does not grow from case to case."""

import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest

from tests.faults.bench import PROGRAM, Bench, finish, start

CASES = 200
LIMIT = 6 * 2**30
GROWTH_MB = 20  # between the second and the last quarter; a case's images are 0.6 MB, kept they would be 60 MB


def watch(pid: int, output: Path, samples: list[tuple[int, float]]) -> None:
    """(maps written, resident MB) of a live process, until it ends."""
    while True:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return
        if pages:
            samples.append((len(list(output.glob("*.nii.gz"))), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
        time.sleep(0.02)


@pytest.mark.slow
def test_200_cases_within_six_gigabytes_and_without_growth(bench: Bench) -> None:
    """The limit is one on data segments: torch reserves more address space than that without using it."""
    case_ids = [f"BraTS-GLI-{i:05}-000" for i in range(2, CASES)]  # and the two good ones
    first = bench.add(case_ids[0])
    for case_id in case_ids[1:]:
        (bench.input / case_id).mkdir()
        for path in first.values():
            os.link(path, bench.input / case_id / path.name.replace(case_ids[0], case_id))
    samples: list[tuple[int, float]] = []
    program = ("prlimit", f"--data={LIMIT}", *PROGRAM)
    with TemporaryFile() as stderr, start(bench.command(program=program), bench.root, stderr) as process:
        watcher = threading.Thread(target=watch, args=(process.pid, bench.output, samples))
        watcher.start()
        ended = finish(process, stderr)
        watcher.join()
    assert ended.code == 0, ended.stderr
    bench.assert_holds(*case_ids)
    assert {path.read_bytes() for path in bench.output.iterdir()} == {bench.reference}
    maps, megabytes = np.array(samples).T
    quarters = [float(np.median(megabytes[(low <= maps) & (maps < low + CASES / 4)])) for low in (50, 100, 150)]
    print("resident MB in the second, third and last quarter:", quarters, "peak", ended.peak_mb)  # noqa: T201
    assert quarters[-1] - quarters[0] < GROWTH_MB, quarters
    assert ended.peak_mb * 2**20 < LIMIT
