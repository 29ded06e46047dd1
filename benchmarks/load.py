"""Resident memory of one run over 200 cases under a limit of 6 GB, as a picture: does it grow from case to case?

    python benchmarks/load.py docs/memory.png

Run from the root of the repository, with `pip install '.[dev]'`. The cases are those of tests/faults/test_load.py,
small ones with the tests' small network: what would be kept of each case shows, not what a full-size one needs.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.faults import anatomy
from tests.faults.bench import GOOD, Bench
from tests.faults.test_load import CASES, LIMIT, resident_mb, run_many


def main(picture: Path) -> None:
    samples: list[tuple[float, int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), anatomy.write_network(Path(folder) / "weights"), b"")
        bench.reference = reference_of(bench)

        def watch(pid: int) -> None:
            began = time.monotonic()
            while megabytes := resident_mb(pid):
                if written := len(list(bench.output.glob("*.nii.gz"))):
                    samples.append((time.monotonic() - began, written, megabytes))
                time.sleep(0.02)

        ended = run_many(bench, watch)
    seconds, maps, megabytes = np.array(samples).T
    for low in range(0, 200, 50):
        print(f"maps {low} to {low + 49}: median {np.median(megabytes[(low <= maps) & (maps < low + 50)]):.0f} MB")
    print(f"peak {ended.peak_mb:.0f} MB, limit {LIMIT / 2**20:.0f} MB, {seconds[-1]:.0f} s for {len(CASES) + 2} cases")
    draw(maps, megabytes, picture)


def reference_of(bench: Bench) -> bytes:
    """The map of the good cases, from a run of their own."""
    bench.run()
    reference = (bench.output / f"{GOOD[0]}.nii.gz").read_bytes()
    shutil.rmtree(bench.output)
    return reference


def draw(maps: np.ndarray, megabytes: np.ndarray, picture: Path) -> None:
    figure = Figure(figsize=(7, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(maps, megabytes, ".", markersize=2, color="#22577a")
    axis.set(xlabel="label maps written", ylabel="resident memory, MB", xlim=(0, 200), ylim=(0, None))
    axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    main(parser.parse_args().picture)
