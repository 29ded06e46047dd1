"""How many threads may compute: what containers, schedulers and users allow."""

import os
from pathlib import Path

import pytest

from brats_infer.system import cores as cores_module
from brats_infer.system.cores import thread_limit, usable_cores


@pytest.mark.parametrize(
    ("content", "variable", "cores", "expected"),
    [
        (("200000 100000\n",), "", 8, 2),
        (("150000 100000\n",), "", 8, 2),
        (("max 100000\n",), "", 8, None),
        (("800000 100000\n",), "", 8, None),
        (("400000\n", "100000\n"), "", 8, 4),
        (("-1\n", "100000\n"), "", 8, None),
        (("200000 100000\n",), "1", 8, 1),
        ((), "3", 8, 3),
        ((), "16", 8, None),
        ((), "", 8, None),
        (("nonsense\n",), "many", 8, None),
    ],
)
def test_threads_are_those_that_the_container_was_granted(
    content: tuple[str, ...],
    variable: str,
    cores: int,
    expected: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = []
    for i, text in enumerate(content):
        (tmp_path / str(i)).write_text(text)
        files.append(str(tmp_path / str(i)))
    missing = (str(tmp_path / "missing"), "")
    monkeypatch.setattr(
        cores_module, "CPU_QUOTAS", (missing, (files[0], files[1] if len(files) > 1 else "")) if files else ()
    )
    monkeypatch.setattr(cores_module, "THREAD_COUNTS", ())
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert thread_limit() == expected


@pytest.mark.parametrize(("granted", "expected"), [("128", 32), ("max", None), ("4096", None), ("2", 1)])
def test_threads_are_a_part_of_those_that_a_container_may_start(
    granted: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pids.max").write_text(f"{granted}\n")
    monkeypatch.setattr(cores_module, "CPU_QUOTAS", ())
    monkeypatch.setattr(cores_module, "THREAD_COUNTS", (str(tmp_path / "missing"), str(tmp_path / "pids.max")))
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_limit() == expected


@pytest.mark.parametrize(("allowed", "granted", "expected"), [(8, "max", 8), (8, "250000", 3), (2, "300000", 2)])
def test_usable_cores_are_those_of_the_process_and_its_container(
    allowed: int, granted: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{granted} 100000\n")
    monkeypatch.setattr(cores_module, "CPU_QUOTAS", ((str(tmp_path / "cpu.max"), ""),))
    monkeypatch.setattr(cores_module, "THREAD_COUNTS", ())
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert usable_cores() == expected
