"""Rows 27, 28, 30 and 35: runs that end early, that start again, or that share a folder."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import nibabel as nib
import numpy as np
import pytest

from model.atomic import PREFIX
from tests.faults.bench import GOOD, Bench, finish, start

MORE = [f"BraTS-GLI-{i:05}-000" for i in range(2, 26)]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[bool]:
    """A file system of that size in a folder; False where none may be mounted."""
    folder.mkdir()
    mount = ("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    mounted = bool(shutil.which(mount[0])) and not subprocess.run(mount, capture_output=True, check=False).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(("umount", str(folder)), check=True)


def test_27_disk_full(bench: Bench) -> None:
    """A real one where a small file system may be mounted; else the first map is larger than a file may be."""
    for case_id in MORE:
        bench.add(case_id)
    pages = -(-len(bench.reference) // 4096)
    with small_disk(bench.output, f"{6 * pages * 4}k") as mounted:
        limit = None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        ended = bench.run(code=6, preexec_fn=limit)
        message = ended.lines[-1]
        assert message.startswith(f"brats-opt: {bench.output}/BraTS-GLI-")
        assert os.strerror(errno.ENOSPC if mounted else errno.EFBIG) in message
        assert "free some space or choose another folder" in message
        written = {path.name: path.read_bytes() for path in bench.output.iterdir()}
        assert len(written) >= 4 if mounted else not written
        assert set(written) <= {f"{case_id}.nii.gz" for case_id in (*GOOD, *MORE)}
        assert set(written.values()) <= {bench.reference}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_28_signal_in_the_middle(bench: Bench, number: int, code: int) -> None:
    for case_id in MORE:
        bench.add(case_id)
    with TemporaryFile() as stderr, start(bench.command(), bench.root, stderr) as process:
        wait_for_maps(bench.output, 3, process)
        process.send_signal(number)
        ended = finish(process, stderr)
    assert ended.code == code
    assert ended.lines[-1].endswith("run the same again to go on (infer: with --resume)")
    written = {path.name: path.read_bytes() for path in bench.output.iterdir()}
    assert 3 <= len(written) < len(MORE) + len(GOOD)
    assert set(written.values()) == {bench.reference}
    bench.run("--resume")
    bench.assert_holds(*MORE)


def wait_for_maps(folder: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.nii.gz"))) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_30_run_again(bench: Bench) -> None:
    for case_id in MORE[:5]:
        bench.add(case_id)
    bench.run()
    whole, cut, gone, moved, shorter = (bench.output / f"{case_id}.nii.gz" for case_id in MORE[:5])
    cut.write_bytes(bench.reference[:-50])
    gone.unlink()
    labels = nib.load(whole)
    nib.Nifti1Image(np.asarray(labels.dataobj), labels.affine + np.eye(4, k=3)).to_filename(moved)
    labels.slicer[:-1].to_filename(shorter)
    before = whole.stat().st_mtime_ns
    ended = bench.run("--resume")
    assert whole.stat().st_mtime_ns == before
    for case_id, status in zip(MORE[:5], ("skipped", *["written"] * 4), strict=True):
        ended.line_of(case_id, status)
    expect_all_alike(bench, MORE[:5])


def expect_all_alike(bench: Bench, case_ids: list[str]) -> None:
    """Every map is there, and is that of an undisturbed run."""
    bench.assert_holds(*case_ids)
    assert {path.read_bytes() for path in bench.output.iterdir()} == {bench.reference}


def test_30_two_runs_at_once(bench: Bench) -> None:
    for case_id in MORE:
        bench.add(case_id)
    before = bench.elsewhere()
    with (
        TemporaryFile() as one,
        TemporaryFile() as two,
        start(bench.command(), bench.root, one) as first,
        start(bench.command(), bench.root, two) as second,
    ):
        endings = [finish(first, one), finish(second, two)]
    assert bench.elsewhere() == before
    for ended in endings:
        assert ended.code == 0, ended.stderr
        assert len(ended.lines) == len(MORE) + len(GOOD)
    expect_all_alike(bench, MORE)


def test_35_killed_worker(bench: Bench) -> None:
    """On one machine: what a kill cost is done by the next run. Over many machines: `test_scale.py`."""
    for case_id in MORE:
        bench.add(case_id)
    with TemporaryFile() as stderr, start(bench.command(), bench.root, stderr) as process:
        wait_for_maps(bench.output, 5, process)
        process.kill()
    done = {path: path.stat().st_mtime_ns for path in bench.output.glob("*.nii.gz")}
    assert 5 <= len(done) < len(MORE) + len(GOOD)
    (bench.output / f"{PREFIX}half").write_bytes(bench.reference[:100])
    ended = bench.run("--resume")
    assert sum(": skipped" in line for line in ended.lines) == len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == done, "none twice"
    expect_all_alike(bench, MORE)  # none lost, and what the kill left half written is gone


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_35_killed_at_random_moments(bench: Bench, seed: int) -> None:
    """50 times in both together. A folder that is complete is begun anew, so that every kill meets work."""
    for case_id in MORE:
        bench.add(case_id)
    began = time.monotonic()
    bench.run()
    duration = time.monotonic() - began
    rng = np.random.default_rng(seed)
    for _ in range(25):
        maps = list(bench.output.glob("*.nii.gz"))
        if len(maps) == len(MORE) + len(GOOD):
            for path in maps:
                path.unlink()
        with TemporaryFile() as stderr, start(bench.command("--resume"), bench.root, stderr) as process:
            time.sleep(rng.uniform(0, duration))
            process.kill()
        assert {path.read_bytes() for path in bench.output.glob("*.nii.gz")} <= {bench.reference}
    bench.run("--resume")
    expect_all_alike(bench, MORE)
