"""Rows 23 to 26 and 29: what the machine offers, and the weights."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from tests.faults import gpu
from tests.faults.bench import GOOD, PROGRAM, ROOT, Bench, assert_refused, assert_told
from tests.faults.privileges import as_other_user, without_capabilities

IMPORTS = {"PYTHONPATH": str(ROOT)}


ON_CPU = ["its sums were kept on the CPU", "it was computed on the CPU"]


@pytest.mark.parametrize("mode", ["coarse-to-fine", "sliding-window"])
@pytest.mark.parametrize(("passes", "note"), list(enumerate(ON_CPU, start=2)))
def test_23_gpu_out_of_memory(bench: Bench, mode: str, passes: int, note: str) -> None:
    ended = bench.run("--mode", mode, program=gpu.too_small(passes), env=IMPORTS)
    (warning,) = (line for line in ended.lines if line.startswith("warning: "))
    assert warning == f"warning: {GOOD[0]}: too large for the GPU's memory: {note}"
    bench.assert_holds()


def test_23_case_that_fits_nowhere(bench: Bench) -> None:
    ended = bench.run(program=gpu.too_small(4), env=IMPORTS, code=3)
    assert "does not fit into memory: give the run more" in ended.line_of(GOOD[0], "failed")
    assert (bench.output / f"{GOOD[1]}.nii.gz").read_bytes() == bench.reference


def test_24_gpu_that_torch_has_no_kernels_for(bench: Bench) -> None:
    cannot = "cannot compute on the GPU (CUDA error: no kernel image is available"
    ended = bench.run("--device", "auto", program=gpu.without_kernels(), env=IMPORTS)
    (warning,) = (line for line in ended.lines if line.startswith("warning: "))
    assert cannot in warning
    assert "the CPU is used" in warning
    bench.assert_holds()
    shutil.rmtree(bench.output)
    asked = bench.run("--device", "cuda", program=gpu.without_kernels(), env=IMPORTS, code=2)
    assert_refused(asked, "--device cuda: ", cannot, "choose --device auto or cpu")


def test_24_no_gpu(bench: Bench) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    ended = bench.run("--device", "auto", env=hidden)
    assert "warning: this machine offers 0 usable CUDA devices: the CPU is used" in ended.stderr
    bench.assert_holds()
    assert_refused(bench.run("--device", "cuda:0", env=hidden, code=2), "offers 0 usable CUDA devices: choose --device")


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


class Attack:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


WEIGHTS = {
    "missing": (Path.unlink, "cannot be read"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-10]), "sha256 differs"),
    "bit": (flip_bit, "sha256 differs"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Attack())), "sha256 differs"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_25_weights_that_are_not_those_of_the_manifest(bench: Bench, name: str) -> None:
    bench.weights = Path(shutil.copytree(bench.weights, bench.root / "weights"))
    damage, reason = WEIGHTS[name]
    damage(bench.weights / "small-0.safetensors")
    assert_refused(bench.run(code=5), "small-0.safetensors", reason)
    assert not any(bench.output.iterdir()), "before any case"


def test_26_output_folder_that_is_missing_or_cannot_be_written(bench: Bench) -> None:
    program = (*without_capabilities(), *PROGRAM)
    locked = bench.root / "locked"
    locked.mkdir(mode=0o555)
    unread = ("--weights", bench.root / "absent")  # exit code 6, not 5: they are loaded later
    for folder in (locked, locked / "below", bench.weights / "manifest.json"):
        ended = bench.run("--output", folder, *unread, program=program, code=6)
        assert_refused(ended, f"{folder}: cannot be written", "choose another --output")
    bench.output = bench.root / "made"
    made = bench.output / "on" / "the way"
    assert_told(bench.run("--output", made, program=program), {}, "failed")
    bench.output = made
    bench.assert_holds()


def test_29_unknown_user_without_home_on_a_small_machine(bench: Bench) -> None:
    """uid 12345, 128 processes, no HOME, no folder for temporary files; the container test adds a read-only root."""
    bench.output.mkdir()
    bench.output.chmod(0o777)
    environment = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), "/nowhere")
    limited = ("prlimit", "--nproc=128", "--nofile=256", "--core=0")
    assert_told(
        bench.run(program=(*as_other_user(bench.root), *limited, *PROGRAM), env=environment, cwd="/"), {}, "failed"
    )
    bench.assert_holds()
