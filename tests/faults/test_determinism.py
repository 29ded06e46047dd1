"""The same case gives the same bytes: twice on one machine, and the same labels on every CPU."""

import gzip
import hashlib
import sys

import pytest

from tests.faults.bench import GOOD, ROOT, Bench

GOLDEN = "90c99481c1c0c7876a59aae6b16ca17c8bd1c4862a4dc52dbd78300b28fb8710"
"""sha256 of a good case's unpacked label map. Not of the packed one: the packer has a variant for each kind of CPU. The
network is so sure of every voxel that neither bf16 nor another order of sums changes a label."""
PRECISION = """
import torch
from brats_infer import ensemble
from brats_infer.cli import main
ensemble.autocast = lambda device: torch.autocast(device.type, dtype=torch.bfloat16, enabled={bf16})
main()
"""


def test_same_case_gives_the_same_bytes(bench: Bench) -> None:
    bench.run()
    first = {path.name: path.read_bytes() for path in bench.output.iterdir()}
    bench.run("--mode", "fast", "--no-flips")
    assert {path.name: path.read_bytes() for path in bench.output.iterdir()} == first
    packed = first[f"{GOOD[0]}.nii.gz"]
    assert packed[3:8] == bytes(5), "neither name nor time in the gzip header"


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("mode", ["fast", "accurate"])
def test_golden_case(bench: Bench, bf16: bool, mode: str) -> None:
    program = (sys.executable, "-c", PRECISION.format(bf16=bf16))
    bench.run("--mode", mode, program=program, env={"PYTHONPATH": str(ROOT)})
    unpacked = gzip.decompress((bench.output / f"{GOOD[0]}.nii.gz").read_bytes())
    assert hashlib.sha256(unpacked).hexdigest() == GOLDEN
