"""Two processes on the CPU train as one does with the same global batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from brats_infer.errors import UsageError
from brats_infer.phantom.write import write_cohort
from brats_infer.train.distributed import Workers, check_gpus, workers_of

REPOSITORY = Path(__file__).parents[2]
ONE = [sys.executable, "-m", "brats_infer.train"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m", "brats_infer.train"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert len(list(write_cohort(folder, "gli", 4, seed=3, shape=(24, 26, 22)))) == 4
    return folder


def train(command: list[str], data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    settings = ["--channels", "4,6", "--patch", "16", "--steps", "4", "--validate-every", "2", "--warm-up", "1"]
    held_out = ["--hold-out", "BraTS-GLI-03000-000", "--hold-out", "BraTS-GLI-03001-000"]
    return subprocess.run(
        [*command, "--task", "gli", "--data", data, "--out", out, *settings, *held_out, "--device", "cpu", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def log_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_two_processes_find_the_losses_and_scores_of_one(data: Path, tmp_path: Path) -> None:
    for name, command in (("one", ONE), ("two", TWO)):
        done = train(command, data, tmp_path / name, "--batch", "2")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["step"] in (2, 4)  # one answer, however many processes
    for one, two in zip(log_of(tmp_path / "one"), log_of(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=2e-3)
        assert two["dice"] == pytest.approx(one["dice"], abs=0.02)
        assert list(two["cases"]) == list(one["cases"])  # type: ignore[call-overload]


def test_gradients_are_those_of_the_whole_batch(data: Path, tmp_path: Path) -> None:
    """A batch of one is what the first of two processes would learn from if nothing were averaged."""
    options = ("--select", "last", "--optimizer", "sgd", "--learning-rate", "0.1")
    found = {}
    for name, command, batch in (("one", ONE, "2"), ("two", TWO, "2"), ("alone", ONE, "1")):
        done = train(command, data, tmp_path / name, "--batch", batch, *options)
        assert done.returncode == 0, done.stderr
        tensors = load_file(tmp_path / name / "best.safetensors")
        found[name] = torch.cat([tensors[key].float().flatten() for key in sorted(tensors)])
    apart = (found["alone"] - found["one"]).norm()
    assert (found["two"] - found["one"]).norm() < 0.2 * apart


def test_a_finished_run_is_told_again_by_any_number_of_processes(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(ONE, data, out, "--batch", "2").returncode == 0
    log = (out / "log.jsonl").read_text()
    again = train(TWO, data, out, "--batch", "2")
    assert again.returncode == 0, again.stderr
    assert (out / "log.jsonl").read_text() == log


def test_variables_of_torchrun_that_are_not_whole_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    with workers_of(torch.device("cpu")) as workers:
        assert workers.count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="WORLD_SIZE is set, but not RANK and "), workers_of(torch.device("cpu")):
        pass
    for name in ("RANK", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UsageError, match="but not MASTER_ADDR: start"), workers_of(torch.device("cpu")):
        pass


def test_batch_that_cannot_be_shared_is_named(data: Path, tmp_path: Path) -> None:
    done = train(TWO, data, tmp_path / "out", "--batch", "3")
    assert done.returncode != 0
    assert "--batch 3: choose a multiple of the 2 processes" in done.stderr


def test_processes_that_share_a_gpu_are_told() -> None:
    check_gpus([("a", "0"), ("a", "1"), ("b", "0")])
    with pytest.raises(UsageError, match="3 processes have 2 GPUs: start one process a GPU"):
        check_gpus([("a", "0"), ("a", "1"), ("a", "0")])


def test_every_piece_of_work_is_one_workers() -> None:
    shares = [list(Workers(rank, 3).share(8)) for rank in range(3)]
    assert sorted(n for share in shares for n in share) == list(range(8))


ELSEWHERE = """
import os, runpy, sys

if os.environ["RANK"] == "1":
    sys.argv[sys.argv.index("--out") + 1] += "-of-its-own"
sys.path.insert(0, os.getcwd())
runpy.run_module("brats_infer.train", run_name="__main__", alter_sys=True)
"""


def test_processes_that_do_not_see_the_same_folder_do_not_go_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(ONE, data, out, "--batch", "2").returncode == 0
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    done = train([*TWO[:-2], str(tmp_path / "elsewhere.py")], data, out, "--batch", "2")
    assert done.returncode != 0
    assert f"{out}: not all processes find the same last.pt there: give them one folder" in done.stderr


DIES_ONCE = """
import os, runpy, signal, sys, threading, time
from pathlib import Path

def die_after_the_first_checkpoint():
    while not Path(sys.argv[sys.argv.index("--out") + 1], "last.pt").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

if (os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]) == ("0", "1"):
    threading.Thread(target=die_after_the_first_checkpoint, daemon=True).start()
sys.path.insert(0, os.getcwd())
runpy.run_module("brats_infer.train", run_name="__main__", alter_sys=True)
"""


def test_a_killed_worker_is_started_again_and_the_run_ends_as_if_nothing_had_happened(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    elastic = [*TWO[:-2], "--max-restarts=1", str(tmp_path / "dies_once.py")]
    options = ("--batch", "2", "--steps", "24", "--select", "last")
    whole = train(TWO, data, tmp_path / "whole", *options)
    broken = train(elastic, data, tmp_path / "broken", *options)
    assert whole.returncode == broken.returncode == 0, broken.stderr
    assert "exitcode: -9" in broken.stderr
    files = [(tmp_path / name / "best.safetensors").read_bytes() for name in ("whole", "broken")]
    assert files[0] == files[1]
    assert [entry["cases"] for entry in log_of(tmp_path / "broken")] == [
        entry["cases"] for entry in log_of(tmp_path / "whole")
    ]
