"""The same case gives the same bytes: twice on one machine, and the same labels on every CPU."""

import gzip
import hashlib
import sys

import pytest

from tests.faults.bench import GOOD, ROOT, Bench

GOLDEN = "90c99481c1c0c7876a59aae6b16ca17c8bd1c4862a4dc52dbd78300b28fb8710"
"""sha256 of a good case's unpacked label map. Not of the packed one: the packer has a variant for each kind of CPU. The
network is so sure of every voxel that neither bf16 nor another order of sums changes a label."""
PROGRAM = """
from brats_infer.network import devices
devices.computes_in_bf16 = lambda: {bf16}  # before others take it from there by name
from brats_infer.network import loading
from brats_infer.commands import info
if {engine!r} == "torch":
    loading.openvino_works = lambda: False
from brats_infer.cli import main
assert "runs on  cpu in {precision} with {engine}," in info.render(info.describe())
main()
"""


def test_same_case_gives_the_same_bytes(bench: Bench) -> None:
    bench.run()
    first = {path.name: path.read_bytes() for path in bench.output.iterdir()}
    bench.run("--mode", "coarse-to-fine", "--no-flips")
    assert {path.name: path.read_bytes() for path in bench.output.iterdir()} == first
    packed = first[f"{GOOD[0]}.nii.gz"]
    assert packed[3:8] == bytes(5), "neither name nor time in the gzip header"


@pytest.mark.parametrize("engine", ["OpenVINO", "torch"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("mode", ["coarse-to-fine", "sliding-window"])
def test_golden_case(bench: Bench, engine: str, precision: str, mode: str) -> None:
    code = PROGRAM.format(bf16=precision == "bf16", precision=precision, engine=engine)
    program = (sys.executable, "-c", code)
    bench.run("--mode", mode, program=program, env={"PYTHONPATH": str(ROOT)})
    unpacked = gzip.decompress((bench.output / f"{GOOD[0]}.nii.gz").read_bytes())
    assert hashlib.sha256(unpacked).hexdigest() == GOLDEN
