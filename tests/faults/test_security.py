"""Nobody let in: no code from weights or parameters, no path out of the output folder, no network."""

import hashlib
import json
import pickle
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from tests.faults.bench import GOOD, PROGRAM, Bench, assert_refused, assert_told, start
from tests.faults.privileges import without_network
from tests.faults.test_machine import Attack

WATCH = """
import os, sys

watched = os.environ.pop("WATCH_FILE")
log = os.open(watched, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def hook(event, args):
    if event == "open" and isinstance(args[0], str | bytes) and args[2] & WRITES:
        os.write(log, f"open {os.path.abspath(os.fsdecode(args[0]))}\\n".encode())
    elif event.split(".")[0] in ("socket", "subprocess", "urllib", "ftplib", "http", "smtplib"):
        os.write(log, f"{event} {args}\\n".encode())
    elif event in ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.rename", "os.remove", "os.mkdir"):
        os.write(log, f"{event} {args[:2]}\\n".encode())

sys.addaudithook(hook)
"""


@pytest.fixture
def own_weights(bench: Bench) -> Path:
    bench.weights = Path(shutil.copytree(bench.weights, bench.root / "weights"))
    return bench.weights


def change_manifest(weights: Path, **changes: Any) -> None:
    path = weights / "manifest.json"
    content = json.loads(path.read_text())
    content["members"][0] |= changes
    path.write_text(json.dumps(content))


def test_pickle_that_the_manifest_vouches_for_is_refused(bench: Bench, own_weights: Path) -> None:
    attack = pickle.dumps(Attack())
    (own_weights / "small-0.safetensors").write_bytes(attack)
    change_manifest(own_weights, sha256=hashlib.sha256(attack).hexdigest())
    assert_refused(bench.run(code=5), "small-0.safetensors: does not fit the network of the manifest")
    assert not list(bench.root.rglob("attacked"))


@pytest.mark.parametrize("name", ["../small-0.safetensors", "/etc/passwd", "small-0.pt", "a/b.safetensors", ""])
def test_manifest_that_names_a_file_elsewhere_is_refused(bench: Bench, own_weights: Path, name: str) -> None:
    shutil.copy(own_weights / "small-0.safetensors", bench.root / "small-0.safetensors")
    change_manifest(own_weights, file=name)
    assert_refused(bench.run(code=5), "manifest.json", "is no name of a .safetensors file")


def test_parameters_cannot_run_code(bench: Bench) -> None:
    parameters = bench.root / "parameters.yaml"
    for text in ("!!python/object/apply:os.mkdir ['attacked']", "task: !!python/name:os.system gli"):
        parameters.write_text(text)
        assert_refused(bench.run("--parameters_file", parameters, code=2), "parameters.yaml: is not YAML")
    assert not list(bench.root.rglob("attacked"))


def test_link_in_the_output_folder_is_replaced_and_not_followed(bench: Bench) -> None:
    """Neither a map nor what a killed run left half written leads out of the folder."""
    private = bench.root / "private"
    private.write_text("keep")
    bench.output.mkdir()
    (bench.output / f"{GOOD[0]}.nii.gz").symlink_to(private)
    (bench.output / ".brats-opt-link").symlink_to(private)
    bench.run()
    bench.assert_holds()
    assert not any(path.is_symlink() for path in bench.output.iterdir())


def test_report_escapes_what_it_shows(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    bench.add("<script>alert(1)<", nested=False)
    report = tmp_path_factory.mktemp("report")
    bench.run("--task", "gli", "--report", report, code=3)
    text = (report / "report.json").read_text()
    assert "<" not in text
    assert "<script>alert(1)<" in [case["id"] for case in json.loads(text)["cases"]]
    assert "<script>alert" not in (report / "index.html").read_text()
    assert [path.name for path in sorted((report / "pictures").iterdir())] == [f"{case_id}.png" for case_id in GOOD]


def test_no_network_no_other_program_and_no_file_elsewhere(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Seen by Python's audit hook, and without any network interface where the system lets one be taken away."""
    hooks = tmp_path_factory.mktemp("hooks")
    (hooks / "sitecustomize.py").write_text(WATCH)
    log = hooks / "log"
    environment = {"PYTHONPATH": str(hooks), "WATCH_FILE": str(log)}
    assert_told(bench.run(program=(*without_network(), *PROGRAM), env=environment), {}, "failed")
    bench.assert_holds()
    events = log.read_text().splitlines()
    assert len([line for line in events if line.startswith("os.rename")]) == len(GOOD), "the hook was there"
    elsewhere = [line for line in events if str(bench.output) not in line and "/dev/null" not in line]
    assert elsewhere == []


def test_no_socket_is_opened_below_python(bench: Bench) -> None:
    """Seen in what the process holds open while it works, and in the system's trace where there is one."""
    held, looks = set(), 0
    with TemporaryFile() as stderr, start(bench.command(), bench.root, stderr) as process:
        while process.poll() is None:
            with suppress(OSError):
                held |= {str(handle.readlink()) for handle in Path(f"/proc/{process.pid}/fd").iterdir()}
            looks += 1
            time.sleep(0.005)
    assert process.returncode == 0
    assert looks > 20, "it was watched at work"
    assert held
    assert not any(name.startswith("socket:") for name in held)


def test_no_system_call_for_the_network(bench: Bench) -> None:
    if not may_trace():
        pytest.skip("needs strace; the test above says nearly as much")
    log = bench.output / "trace"
    bench.output.mkdir()
    strace = ("strace", "-f", "--seccomp-bpf", "-e", "trace=socket,connect,bind,sendto,rename", "-o", log)
    bench.run(program=(*strace, *PROGRAM))
    calls = re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE)
    assert calls == ["rename"] * len(GOOD)
    log.unlink()
    bench.assert_holds()


def may_trace() -> bool:
    try:
        trial = subprocess.run(["strace", "-f", "--seccomp-bpf", "true"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return trial.returncode == 0
