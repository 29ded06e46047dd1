"""A run goes on beside bad cases, works on several at once, and ends where the disk or a folder fails."""

import itertools
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from brats_infer import cohort, pipeline
from brats_infer.cohort import segment_folder
from brats_infer.errors import NoCasesError, OutputError, UsageError, WeightsError
from brats_infer.network.devices import CPU
from brats_infer.network.engines import TorchEngine
from brats_infer.network.ensemble import Ensemble, Lanes
from brats_infer.network.gpu import ensemble as gpu_ensemble
from brats_infer.network.gpu import lanes
from brats_infer.network.gpu.ensemble import GpuEnsemble, placements
from brats_infer.network.gpu.turns import Asked, turn_at
from brats_infer.pipeline import Predicted
from brats_infer.run import case as stages
from brats_infer.run import folder as folder_run
from brats_infer.run.events import CaseResult, Events, Finished, Status
from brats_infer.settings import OnError
from tests.run.runs import SHAPE, labels_in, run, told


def test_bad_case_does_not_stop_the_others(cases: Path, weights: Path, tmp_path: Path) -> None:
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-100])
    results = run(cases, tmp_path / "out", weights)
    assert results["BraTS-GLI-01001-000"].status is Status.FAILED
    assert str(broken) in results["BraTS-GLI-01001-000"].message
    assert sorted(labels_in(tmp_path / "out")) == ["BraTS-GLI-01000-000.nii.gz", "BraTS-GLI-01002-000.nii.gz"]


def test_network_that_returns_nan_fails_the_case_and_writes_no_empty_map(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean = Ensemble.mean
    monkeypatch.setattr(Ensemble, "mean", lambda *args: mean(*args) * np.float32("nan"))
    results = run(cases, tmp_path / "out", weights)
    assert all("NaN" in result.message and result.status is Status.FAILED for result in results.values())
    assert not labels_in(tmp_path / "out")


@pytest.mark.parametrize("damage", ["one image", "every image", "missing image"])
def test_blank_policy_writes_background_on_the_grid_of_the_case(
    cases: Path, weights: Path, tmp_path: Path, damage: str
) -> None:
    images = sorted((cases / "BraTS-GLI-01001-000").glob("*-t*.nii.gz"))
    for path in images if damage == "every image" else images[:1]:
        path.unlink() if damage == "missing image" else path.write_bytes(b"\x1f\x8bnothing")
    results = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK)
    assert results["BraTS-GLI-01001-000"].status is Status.BLANK
    blank = labels_in(tmp_path / "out")["BraTS-GLI-01001-000.nii.gz"]
    assert not blank.any()
    assert blank.shape == ((240, 240, 155) if damage == "every image" else SHAPE)


def test_a_full_disk_ends_the_run_where_a_blank_map_was_to_be_written(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space left")

    for path in (cases / "BraTS-GLI-01000-000").iterdir():
        path.write_bytes(b"")
    monkeypatch.setattr(stages, "write_labels", full)
    with pytest.raises(OutputError, match="no space left"):
        run(cases, tmp_path / "out", weights, on_error=OnError.BLANK)


def test_no_more_cases_wait_for_the_disk_than_are_written_at_once(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, third = stages.write_labels, threading.Event()
    early: list[bool] = []

    def stage(case_id: str, name: str) -> None:
        if (case_id, name) == ("BraTS-GLI-01002-000", "network"):
            third.set()

    def slowly(*given: Any) -> None:
        early.append(third.wait(60 if early else 1))
        write(*given)

    monkeypatch.setattr(stages, "write_labels", slowly)
    segment_folder(cases, tmp_path / "out", task="gli", weights=weights, device="cpu", events=Events(stage=stage))
    assert early == [False, True, True]


def test_all_computes_on_the_threads_that_it_may_have(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("os.cpu_count", lambda: before + 2)
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 1))
    torch.set_num_threads(before + 2)
    try:
        run(cases, tmp_path / "out", weights)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_case_that_does_not_fit_into_memory_stops_no_other(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    crop, geometry, times = pipeline.crop_to_brain, stages.read_geometry, iter(range(99))
    monkeypatch.setattr(pipeline, "crop_to_brain", lambda volumes: crop(volumes) if next(times) else no_memory())
    failed = run(cases, tmp_path / "fail", weights)["BraTS-GLI-01000-000"]
    assert "BraTS-GLI-01000-000: does not fit into memory" in failed.message
    monkeypatch.setattr(pipeline, "crop_to_brain", no_memory)
    monkeypatch.setattr(
        stages, "read_geometry", lambda path, *n: no_memory() if "01000" in path.name else geometry(path, *n)
    )
    results = run(cases, tmp_path / "blank", weights, on_error=OnError.BLANK)
    assert [result.status for result in results.values()] == [Status.FAILED, Status.BLANK, Status.BLANK]


def test_reading_goes_on_in_a_thread_of_its_own(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    crop = pipeline.crop_to_brain
    monkeypatch.setattr(
        pipeline, "crop_to_brain", lambda volumes: seen.add(threading.current_thread().name) or crop(volumes)
    )
    run(cases, tmp_path / "out", weights)
    assert seen == {"reader_0"}


def test_the_device_goes_on_while_the_case_before_is_finished_and_told(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    began = {f"BraTS-GLI-0100{number}-000": threading.Event() for number in range(3)}
    waited: list[bool] = []
    told: list[str] = []

    def stage(case_id: str, name: str) -> None:
        if name == "network":
            began[case_id].set()

    def finished(done: Finished) -> None:
        following = list(began)[list(began).index(done.case.id) + 1 :][:1]
        waited.extend(began[case_id].wait(60) for case_id in following)

    def result(ended: CaseResult) -> None:
        assert threading.current_thread().name == "teller_0"
        told.append(ended.id)

    events = Events(stage=stage, finished=finished, result=result)
    segment_folder(cases, tmp_path / "out", task="gli", weights=weights, device="cpu", events=events)
    assert waited == [True, True]
    assert told == list(began)


def test_beside_a_gpu_several_cases_are_read_and_written_at_once_and_told_in_order(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No case can be read to its end, and no map be written, before the others are at it too."""
    reading, writing = (threading.Barrier(3, timeout=60) for _ in range(2))
    crop, write, told = pipeline.crop_to_brain, stages.write_labels, list[str]()
    monkeypatch.setattr(cohort, "pick_device", lambda _: torch.device("cpu:0"))  # not the CPU, to the pipeline
    monkeypatch.setattr(lanes, "usable_cores", lambda: 6)
    with monkeypatch.context() as context:
        context.setattr(lanes, "MOST_READING", 1)
        run(cases, tmp_path / "alone", weights)
    monkeypatch.setattr(pipeline, "crop_to_brain", lambda volumes: (reading.wait(), crop(volumes))[1])
    monkeypatch.setattr(stages, "write_labels", lambda *given: (writing.wait(), write(*given))[1])
    events = Events(result=lambda ended: told.append(ended.id))
    results = segment_folder(cases, tmp_path / "together", task="gli", weights=weights, events=events)
    assert [result.status for result in results] == [Status.WRITTEN] * 3
    assert told == [result.id for result in results]
    found, expected = labels_in(tmp_path / "together"), labels_in(tmp_path / "alone")
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("cores", "expected"), [(1, 2), (4, 2), (6, 3), (16, 8), (64, 8)])
def test_as_many_cases_at_once_beside_a_gpu_as_there_are_cores_for(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "usable_cores", lambda: cores)
    assert lanes.lanes().reading == expected
    assert Lanes().reading == 1


@pytest.mark.parametrize(
    ("device", "threads"), [("cpu:0", ["device_0", "device_1", "device_2"]), ("cpu", ["MainThread"])]
)
def test_a_gpu_has_the_next_cases_while_it_computes_one(
    device: str, threads: list[str], cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a GPU no case is through the networks before all three are given it; on the CPU one at a time is."""
    predict, together, interval = stages.predict, threading.Barrier(len(threads), timeout=60), sys.getswitchinterval()
    seen: set[str] = set()

    def predicting(*given: Any) -> Predicted:
        seen.add(threading.current_thread().name)
        assert (sys.getswitchinterval() < interval) == (device != "cpu")
        together.wait()
        return predict(*given)

    monkeypatch.setattr(cohort, "pick_device", lambda _: torch.device(device))  # cpu:0: not the CPU, to the pipeline
    monkeypatch.setattr(stages, "predict", predicting)
    assert [result.status for result in run(cases, tmp_path / "out", weights).values()] == [Status.WRITTEN] * 3
    assert sorted(seen) == threads
    assert sys.getswitchinterval() == interval


def multiply(cases: Path, count: int) -> None:
    """As many cases, copies of the three."""
    for number in range(3, count):
        source, case_id = f"BraTS-GLI-0100{number % 3}-000", f"BraTS-GLI-010{number:02}-000"
        for path in (cases / source).iterdir():
            target = cases / case_id / path.name.replace(source, case_id)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())


def test_beside_a_gpu_a_full_disk_ends_the_run_before_all_cases_are_computed(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multiply(cases, 24)
    predict, numbers, failed = stages.predict, itertools.count(), threading.Event()

    def full(*_: object) -> None:
        failed.set()
        raise OutputError("no space left")

    def predicting(*given: Any) -> Predicted:
        if next(numbers) >= lanes.COMPUTING:
            assert failed.wait(60)
            time.sleep(0.1)
        return predict(*given)

    monkeypatch.setattr(cohort, "pick_device", lambda _: torch.device("cpu:0"))
    monkeypatch.setattr(lanes, "usable_cores", lambda: 16)
    monkeypatch.setattr(stages, "predict", predicting)
    monkeypatch.setattr(stages, "write_labels", full)
    with pytest.raises(OutputError, match="no space left"):
        run(cases, tmp_path / "out", weights)
    assert next(numbers) <= 11, "five that were there, five behind them, and one more"


def test_of_several_cases_at_a_gpu_that_fails_now_and_then_none_is_lost_or_mixed_up(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it fails at, too little memory or anything else, and whoever has his turn meanwhile."""
    multiply(cases, 24)
    monkeypatch.setattr("brats_infer.network.loading.openvino_works", lambda: False)  # torch computes here and there
    run(cases, tmp_path / "sound", weights, component_probability=0.5)
    compute, dice, gpu = TorchEngine._logits, random.Random(0), torch.device("cpu:0")  # not the CPU, to the pipeline
    errors = ["CUDA out of memory", "CUDA error: unspecified launch failure"]
    raised: list[str] = []

    def failing(engine: TorchEngine, padded: Tensor) -> Tensor:
        if engine.device == gpu and dice.random() < 0.5:
            raised.append(dice.choice(errors))
            raise RuntimeError(raised[-1])
        return compute(engine, padded)

    answer, waited = Asked.answer, list[str]()

    def slowly(asked: Asked) -> Tensor:
        waited.append(threading.current_thread().name)
        time.sleep(dice.random() / 100)
        return answer(asked)

    monkeypatch.setattr(cohort, "pick_device", lambda _: gpu)
    monkeypatch.setattr(TorchEngine, "_logits", failing)
    monkeypatch.setattr(Asked, "answer", slowly)
    results = run(cases, tmp_path / "out", weights, component_probability=0.5)
    assert {result.status for result in results.values()} == {Status.WRITTEN}
    assert set(raised) == set(errors)
    assert len(set(waited)) > 1
    moved = {line.partition(": ")[2] for result in results.values() for line in told(result)}
    fault = f"the GPU failed ({errors[1]}): it was computed on the CPU"
    assert fault in moved
    assert moved <= {fault, *(place.note for place in placements(gpu))}
    found, expected = labels_in(tmp_path / "out"), labels_in(tmp_path / "sound")
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert len({labels.tobytes() for labels in expected.values()}) == 3


def test_a_case_that_a_gpu_has_no_room_for_beside_others_has_it_alone(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brats_infer.network.loading.openvino_works", lambda: False)
    run(cases, tmp_path / "sound", weights)
    mean, turn, together = Ensemble.mean, turn_at(torch.device("cpu:0")), threading.Barrier(3, timeout=60)
    attempts: dict[str, list[bool]] = {}

    def crowded(ensemble: Ensemble, *given: Any) -> Tensor:
        """All three are there before one fails, or goes."""
        mine = attempts.setdefault(threading.current_thread().name, [])
        mine.append(turn._taken)
        if len(mine) > 1:
            assert not turn._cases
            return mean(ensemble, *given)
        turn.lock.release()
        first = together.wait() == 0
        turn.lock.acquire()
        if first:
            return mean(ensemble, *given)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cohort, "pick_device", lambda _: torch.device("cpu:0"))
    monkeypatch.setattr(Ensemble, "mean", crowded)
    results = run(cases, tmp_path / "out", weights)
    assert sorted(attempts.values()) == [[False], [False, True], [False, True]]
    assert [(result.status, told(result)) for result in results.values()] == [(Status.WRITTEN, [])] * 3
    found, expected = labels_in(tmp_path / "out"), labels_in(tmp_path / "sound")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_run_that_ends_gives_up_what_a_failed_gpu_has_left_to_the_cpu(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal comes when three cases are there, of which one has been computed on the CPU."""
    passes, compute, ended, computed = list[str](), TorchEngine._logits, threading.Event(), threading.Event()

    def slowly(engine: TorchEngine, padded: Tensor) -> Tensor:
        if engine.device != CPU:
            raise RuntimeError("CUDA error: unspecified launch failure")
        passes.append(threading.current_thread().name)
        if len(passes) > 1:
            computed.set()
            assert ended.wait(60)
        return compute(engine, padded)

    def interrupted(_: object, most: int) -> Iterator[CaseResult]:
        if most == 0 and computed.wait(60):
            raise KeyboardInterrupt
        yield from ()

    monkeypatch.setattr("brats_infer.network.loading.openvino_works", lambda: False)
    monkeypatch.setattr(cohort, "pick_device", lambda _: torch.device("cpu:0"))
    monkeypatch.setattr("brats_infer.network.gpu.ensemble.Event", lambda: ended)
    monkeypatch.setattr(TorchEngine, "_logits", slowly)
    monkeypatch.setattr(folder_run, "_ended", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(cases, tmp_path / "out", weights)
    assert len(passes) <= 2, "of three cases"
    assert len(labels_in(tmp_path / "out")) <= 2


def test_a_gpu_that_has_failed_does_not_undo_what_is_written(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "empty_cache", failed)
    assert [result.status for result in run(cases, tmp_path / "out", weights).values()] == [Status.WRITTEN] * 3


@pytest.mark.parametrize(
    ("error", "statuses", "computed"),
    [
        ("CUDA error: an illegal memory access was encountered", [Status.WRITTEN] * 3, 4),
        ("shapes cannot be multiplied", [Status.WRITTEN, Status.FAILED, Status.WRITTEN], 3),
    ],
)
def test_what_a_gpu_that_fails_takes_with_it_is_computed_again(
    cases: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: str,
    statuses: list[Status],
    computed: int,
) -> None:
    """Of a fault, which all that comes after meets too, a case may hear as late as it is fetched."""
    monkeypatch.setattr("brats_infer.network.loading.openvino_works", lambda: False)
    run(cases, tmp_path / "sound", weights)
    works, compute, times = gpu_ensemble.fetched, GpuEnsemble._computed, itertools.count()
    calls: list[object] = []

    def failing(*given: Any) -> Any:
        if next(times) == 1:
            raise RuntimeError(error)
        return works(*given)

    def computing(ensemble: GpuEnsemble, *given: Any) -> tuple[Tensor, str]:
        calls.append(given)
        return compute(ensemble, *given)[0], "computed"

    monkeypatch.setattr(cohort, "pick_device", lambda _: torch.device("cpu:0"))
    monkeypatch.setattr(lanes, "COMPUTING", 1)
    monkeypatch.setattr(gpu_ensemble, "fetched", failing)
    monkeypatch.setattr(GpuEnsemble, "_computed", computing)
    results = run(cases, tmp_path / "out", weights)
    assert [result.status for result in results.values()] == statuses
    assert len(calls) == computed
    for name, result in results.items():
        assert result.warnings.count(f"{name}: computed") == (result.status is Status.WRITTEN)
    found, expected = labels_in(tmp_path / "out"), labels_in(tmp_path / "sound")
    assert len(found) == statuses.count(Status.WRITTEN)
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_wrong_folders_and_weights_are_told_before_any_case_is_read(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(stages, "read_case", read.append)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(NoCasesError, match="expected"):
        segment_folder(tmp_path / "empty", tmp_path / "out", weights=weights)
    with pytest.raises(UsageError, match="is not a folder"):
        segment_folder(tmp_path / "absent", tmp_path / "out", weights=weights)
    with pytest.raises(UsageError, match="is the input folder"):
        segment_folder(cases, cases, weights=weights)
    with pytest.raises(OutputError, match="file"):
        segment_folder(cases, tmp_path / "file", weights=weights)
    (tmp_path / "unsound" / "BraTS-GLI-01000-000").mkdir(parents=True)
    for folder in (cases, tmp_path / "unsound"):
        with pytest.raises(WeightsError, match=r"manifest\.json"):
            segment_folder(folder, tmp_path / "out", weights=tmp_path)
    assert not read
    segment_folder(cases, tmp_path / "out", weights=weights, device="cpu")
    assert len(read) == 3, "else this test shows nothing"
