"""Cases on a Ray cluster: the same maps as a plain run, whatever becomes of the workers."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from brats_infer import cli
from brats_infer.cluster import foreman as foreman_module
from brats_infer.cluster.connection import joined
from brats_infer.cluster.marks import marked
from brats_infer.cluster.runner import on_ray
from brats_infer.cluster.slots import Slot, find_slots
from brats_infer.cluster.worker import Worker
from brats_infer.cohort import Plan, segment_folder
from brats_infer.errors import BratsOptError, OutputError, UsageError
from brats_infer.files.cases import Case
from brats_infer.network.gpu.lanes import COMPUTING
from brats_infer.network.loading import working_on
from brats_infer.run.events import CaseResult, Status
from brats_infer.settings import OnError, Settings
from brats_infer.tasks import TASKS
from model.atomic import PREFIX
from tests.case_files import write_case
from tests.cluster.ray_cluster import in_a_process, processes, wait_for
from tests.faults import anatomy
from tests.small_networks import random_network, write_weights

ROOT = Path(__file__).parents[2]
CASES = [f"BraTS-GLI-{i:05}-000" for i in range(1, 9)]
DEADLY = CASES[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input`, `weights`, and in `plain` what a plain run makes of them."""
    folder = tmp_path_factory.mktemp("scale")
    for case_id in CASES:
        write_case(folder / "input", case_id, image=anatomy.image)
    anatomy.write_network(folder / "weights")
    segment_folder(folder / "input", folder / "plain", weights=folder / "weights", device="cpu")
    return folder


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray may write, with a name that is short enough for its sockets; two workers have room."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // 2)))
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        yield Path(short)


class Asked:
    """An actor that remembers which cases it was asked for."""

    def __init__(self) -> None:
        self.cases: list[str] = []

    @property
    def segment(self) -> "Asked":
        return self

    def remote(self, case: Case) -> object:
        self.cases.append(case.id)
        return object()


def test_a_case_whose_worker_died_is_the_only_one_of_its_next() -> None:
    """So that no other case is blamed when it dies too."""
    plan = Plan(Path("in"), Path("out"), Path("weights"), (), "cpu", Settings())
    first, second, deadly = (Case(case_id, {}, TASKS["gli"]) for case_id in (*CASES[:2], DEADLY))
    foreman = foreman_module.Foreman([first, second], plan, Path("mark"))
    foreman.suspects.append((deadly, 1))
    worker = foreman_module.Hired(Asked(), Slot(1, 0), deaths=0, ready=True)
    for _ in range(2):
        foreman._give(worker)
        assert worker.actor.cases == [DEADLY]
    worker.calls = 0  # it has ended
    foreman._give(worker)
    assert worker.actor.cases == [DEADLY, *CASES[:2]]
    assert [(call.case and call.case.id, call.deaths) for call in foreman.calls.values()] == [
        (DEADLY, 1),
        (CASES[0], 0),
        (CASES[1], 0),
    ]


@pytest.mark.parametrize(("slot", "cases"), [(Slot(4, 0), 3), (Slot(4, 1), 8)])
def test_a_worker_with_a_gpu_has_more_cases_at_once(slot: Slot, cases: int) -> None:
    plan = Plan(Path("in"), Path("out"), Path("weights"), (), "auto", Settings())
    foreman = foreman_module.Foreman([Case(f"case {n}", {}, TASKS["gli"]) for n in range(20)], plan, Path("mark"))
    worker = foreman_module.Hired(Asked(), slot, deaths=0, ready=True)
    foreman._give(worker)
    assert worker.actor.cases == [f"case {n}" for n in range(cases)]


def test_a_worker_is_asked_for_as_many_cases_as_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(Path("in"), Path("out"), Path("weights"), (), "auto", Settings())
    asked: list[dict[str, int]] = []

    class Remote:
        def __init__(self, _: type) -> None: ...

        def options(self, **options: int) -> "Remote":
            asked.append(options)
            return self

        def remote(self, *_: object) -> Any:
            return SimpleNamespace(prepare=SimpleNamespace(remote=object))

    monkeypatch.setattr("ray.remote", Remote)
    for slot in (Slot(4, 0), Slot(8, 1)):
        foreman_module.Foreman([], plan, Path("mark"))._hire(slot)
    assert asked == [
        {"num_cpus": 4, "num_gpus": 0, "max_concurrency": 3},
        {"num_cpus": 8, "num_gpus": 1, "max_concurrency": 8},
    ]
    for device, computing in (("cpu", 1), ("cuda", COMPUTING)):
        with working_on(torch.device(device)) as lanes:
            assert lanes.computing == computing


def maps(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def command(*args: object, prefix: tuple[str, ...] = (), **options: Any) -> subprocess.Popen[str]:
    """`brats-opt … --ray local`, told where it is by relative names."""
    given = ["--input", "input", "--weights", "weights", "--device", "cpu", "--ray", "local"]
    line = [*prefix, sys.executable, str(ROOT / "entrypoint.py"), *given, *(str(arg) for arg in args)]
    return subprocess.Popen(line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def without_outside() -> tuple[str, ...]:
    """A network namespace with the loopback interface alone, where the system lets one be made."""
    prefix = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    try:
        made = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    return prefix if made else ()


def test_same_maps_as_a_plain_run_without_network_and_without_traces(
    folder: Path, tmp_path: Path, ray_folder: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    with command("--output", tmp_path / "out", prefix=without_outside(), cwd=folder, env=environment) as process:
        stdout, stderr = process.communicate(timeout=240)
    assert (process.returncode, stdout) == (0, ""), stderr
    assert maps(tmp_path / "out") == maps(folder / "plain")
    greeting, *lines = stderr.splitlines()
    assert greeting.endswith(f": {len(CASES)} cases")
    assert [line.split()[0] for line in lines] == [f"[{i}/{len(CASES)}]" for i in range(1, len(CASES) + 1)]
    assert sorted(line.split()[1] for line in lines) == [f"{case_id}:" for case_id in CASES]
    assert not list(ray_folder.iterdir())
    assert not list(home.iterdir())


def test_warnings_of_a_case_are_those_of_a_plain_run(folder: Path, tmp_path: Path, ray_folder: Path) -> None:
    (tmp_path / "weights").mkdir()
    write_weights(tmp_path / "weights", [random_network(seed=5)])
    cases = tmp_path / "input"
    for case_id in CASES[:2]:
        shutil.copytree(folder / "input" / case_id, cases / case_id)

    def lines(*args: object) -> set[str]:
        options = ("--input", cases, "--weights", tmp_path / "weights", "--component-probability", 0, *args)
        line = [sys.executable, ROOT / "entrypoint.py", "--device", "cpu", *map(str, options)]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return {text for text in done.stderr.splitlines() if text.startswith("warning: ")}

    plain = lines("--output", tmp_path / "plain")
    assert sum("unsure of the map: its expected Dice is" in text for text in plain) == 2
    assert lines("--output", tmp_path / "ray", "--ray", "local") == plain


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", ["ray starts", "a map is written"])
def test_signal_leaves_whole_maps_and_no_process(
    folder: Path, tmp_path: Path, ray_folder: Path, moment: str, number: int, code: int
) -> None:
    for i in range(60):
        shutil.copytree(folder / "input" / CASES[0], tmp_path / "input" / f"BraTS-GLI-{i:05}-000")
        for path in (tmp_path / "input" / f"BraTS-GLI-{i:05}-000").iterdir():
            path.rename(path.with_name(path.name.replace(CASES[0], f"BraTS-GLI-{i:05}-000")))
    mark = uuid.uuid4().hex
    args = ("--input", tmp_path / "input", "--output", tmp_path / "out")
    with command(*args, cwd=folder, env={**os.environ, "MARK": mark}, start_new_session=True) as process:
        where, what = (ray_folder, "*/session_*/sockets") if moment == "ray starts" else (tmp_path, "out/*.nii.gz")
        wait_for(lambda: process.poll() is not None or list(where.glob(what)))
        os.killpg(process.pid, number)  # as a terminal's Ctrl-C does, and Slurm
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    (line,) = (line for line in stderr.splitlines() if line.startswith("brats-opt: "))
    assert "--resume" in line
    assert "Traceback" not in stderr
    wait_for(lambda: not marked_processes(mark))
    written = maps(tmp_path / "out")
    assert bool(written) == (moment == "a map is written")
    assert len(written) < 60
    assert not list(ray_folder.iterdir())
    assert set(written.values()) <= set(maps(folder / "plain").values())
    assert all(name.endswith("-000.nii.gz") for name in written)


def marked_processes(mark: str) -> list[str]:
    found = []
    for pid, _, name in processes():
        try:
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(name)
        except OSError:
            continue
    return found


class DiesOfACase(Worker):
    """Killed, as by the system when memory is short, by one of the cases."""

    def segment(self, case: Case) -> CaseResult:
        if case.id == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().segment(case)


class DiesAtOnce(Worker):
    def prepare(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def segment_with(worker: type[Worker], folder: Path, out: Path, policy: OnError = OnError.FAIL) -> list[CaseResult]:
    foreman_module.Worker = worker  # type: ignore[misc]
    given: dict[str, Any] = {"weights": folder / "weights", "device": "cpu", "settings": Settings(on_error=policy)}
    return segment_folder(folder / "input", out, runner=on_ray("local"), **given)


@pytest.mark.parametrize("policy", list(OnError))
def test_case_that_kills_its_workers_fails_alone(
    folder: Path, tmp_path: Path, ray_folder: Path, policy: OnError
) -> None:
    results = in_a_process(segment_with, DiesOfACase, folder, tmp_path / "out", policy)
    assert [result.id for result in results] == CASES
    ending = Status.FAILED if policy == OnError.FAIL else Status.BLANK
    assert [result.id for result in results if result.status == ending] == [DEADLY]
    assert f"{DEADLY}: 3 workers died of it" in results[CASES.index(DEADLY)].message
    expected = {name: content for name, content in maps(folder / "plain").items() if not name.startswith(DEADLY)}
    written = maps(tmp_path / "out")
    assert (f"{DEADLY}.nii.gz" in written) == (policy == OnError.BLANK)
    assert {name: content for name, content in written.items() if not name.startswith(DEADLY)} == expected


def test_workers_that_die_as_they_start_end_the_run(folder: Path, tmp_path: Path, ray_folder: Path) -> None:
    with pytest.raises(BratsOptError, match="every worker dies as it starts"):
        in_a_process(segment_with, DiesAtOnce, folder, tmp_path / "out")
    assert not maps(tmp_path / "out")


def test_signals_are_ours_again_after_ray(ray_folder: Path) -> None:
    assert in_a_process(catch_after_ray) == [signal.SIGTERM]


def catch_after_ray() -> list[int]:
    came: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    with joined("local"):
        pass
    signal.raise_signal(signal.SIGTERM)
    return came


def node(cpus: float, gpus: float = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": cpus, "memory": 1e9, **({"GPU": gpus} if gpus else {})}}


@pytest.mark.parametrize(
    ("nodes", "device", "expected"),
    [
        ([node(16, 2), node(8, 1), node(64)], "auto", [Slot(8, 1), Slot(8, 1), Slot(8, 1)]),
        ([node(1, 2)], "cuda", [Slot(0, 1), Slot(0, 1)]),
        ([node(9, 1), node(2)], "cpu", [Slot(4, 0), Slot(4, 0), Slot(2, 0)]),
        ([node(0), node(4), node(4, 8, alive=False)], "auto", [Slot(4, 0)]),
    ],
)
def test_a_worker_for_every_gpu_or_every_few_cores(
    nodes: list[dict[str, Any]], device: str, expected: list[Slot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert find_slots(nodes, device) == expected


def test_cores_of_a_worker_are_those_of_omp_num_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert find_slots([node(7)], "cpu") == [Slot(2, 0)] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert find_slots([node(8)], "cpu") == [Slot(4, 0)] * 2


@pytest.mark.parametrize(
    ("nodes", "device", "said"),
    [
        ([node(4)], "cuda", "the Ray cluster has no GPU"),
        ([node(4, 2)], "cuda:1", "Ray deals out the GPUs"),
        ([node(0)], "auto", "offers no processor"),
    ],
)
def test_cluster_without_what_is_asked_for(nodes: list[dict[str, Any]], device: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        find_slots(nodes, device)


def test_machine_that_sees_another_folder_gets_no_case(folder: Path, tmp_path: Path) -> None:
    plan = Plan(folder / "input", tmp_path, folder / "weights", (TASKS["gli"],), "cpu", Settings())
    with marked(tmp_path) as mark:
        Worker(plan, mark.path, "cpu").prepare()
        absent = Plan(tmp_path / "absent", tmp_path, plan.weights, plan.tasks, "cpu", Settings())
        with pytest.raises(UsageError, match="absent: is not there on"):
            Worker(absent, mark.path, "cpu").prepare()
    with pytest.raises(OutputError, match="name one that all machines share"):
        Worker(plan, mark.path, "cpu").prepare()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "auto", "ray://127.0.0.1:1", "nobody.invalid:6379", "127.0.0.1:99999"]
)
def test_address_where_no_cluster_answers(folder: Path, tmp_path: Path, address: str) -> None:
    (tmp_path / "out").mkdir()
    of_another_machine = tmp_path / "out" / f"{PREFIX}deadbeef-abc"
    of_another_machine.touch()
    with pytest.raises(UsageError, match=rf"--ray {address}: no cluster \(.+\): give local or HOST:PORT"):
        segment_folder(
            folder / "input", tmp_path / "out", weights=folder / "weights", device="cpu", runner=on_ray(address)
        )
    assert of_another_machine.exists()


def test_faults_of_weights_and_output_keep_their_exit_codes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for args, code in ((("--weights", tmp_path), 5), (("--output", tmp_path / "file"), 6)):
        with command("--output", tmp_path / "out", *args, cwd=folder) as process:
            _, stderr = process.communicate(timeout=120)
        assert (process.returncode, len(stderr.splitlines())) == (code, 1), stderr


def test_ray_that_is_not_installed_is_said_at_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_infer.commands.infer.find_spec", lambda _: None)
    args = ["--input", str(folder / "input"), "--output", str(tmp_path / "out"), "--ray", "local"]
    done = CliRunner().invoke(cli.cli, args)
    assert isinstance(done.exception, UsageError)
    assert "pip install '.[scale]'" in str(done.exception)
    assert not (tmp_path / "out").exists()
