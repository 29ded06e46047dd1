"""From folders of images to folders of label maps, with a small network of random weights."""

import itertools
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations as nio
from numpy.typing import NDArray
from torch import Tensor

from brats_infer import endings, pipeline
from brats_infer.endings import CaseResult, Status
from brats_infer.ensemble import Ensemble
from brats_infer.errors import NoCasesError, OutputError, UsageError, WeightsError
from brats_infer.labels import labels_from_probabilities
from brats_infer.phantom.cohort import write_cohort
from brats_infer.pipeline import segment_folder
from brats_infer.settings import Mode, OnError, Settings
from brats_infer.tasks import TASKS
from brats_infer.volume import read_labels
from brats_infer.watch import Finished, Watcher
from model.checkpoint import write_manifest
from tests.small_networks import random_network, write_weights

GLI = TASKS["gli"]
SHAPE = (30, 34, 26)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder, [random_network(seed=5)])  # one of those that find every label
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    list(write_cohort(folder, "gli", 3, seed=1, shape=SHAPE))
    return folder


@pytest.fixture
def cases(samples: Path, tmp_path: Path) -> Path:
    """Three cases that the test may break."""
    return Path(shutil.copytree(samples, tmp_path / "input"))


def run(cases: Path, output: Path, weights: Path, **changes: object) -> dict[str, CaseResult]:
    settings = Settings(**changes)  # type: ignore[arg-type]
    results = segment_folder(cases, output, task="gli", weights=weights, device="cpu", settings=settings)
    return {result.id: result for result in results}


def labels_in(folder: Path) -> dict[str, NDArray[np.uint8]]:
    return {path.name: read_labels(path)[0] for path in sorted(folder.iterdir())}


def test_every_case_gets_a_label_map_on_its_own_grid_and_nothing_else(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "output"
    results = run(cases, output, weights)
    assert sorted(path.name for path in output.iterdir()) == [f"BraTS-GLI-0100{i}-000.nii.gz" for i in range(3)]
    assert {result.status for result in results.values()} == {Status.WRITTEN}
    for case_id in results:
        image = nib.load(cases / case_id / f"{case_id}-t1n.nii.gz")
        labels = nib.load(output / f"{case_id}.nii.gz")
        assert labels.get_data_dtype() == np.uint8
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        values = np.asarray(labels.dataobj)
        assert set(np.unique(values)) <= {0, 1, 2, 3}
        assert values.any(), "a random network labels something; else this test shows nothing"


def test_same_case_gives_the_same_bytes(cases: Path, weights: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "a", weights)
    run(cases, tmp_path / "b", weights)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


AXES = [
    "".join(code) + "".join("+-"[flip] for flip in flips)
    for code, flips in zip(
        itertools.permutations("xyz"), itertools.islice(itertools.product((0, 1), repeat=3), 1, 7), strict=True
    )
]


@pytest.mark.parametrize("axes", AXES)
def test_flipped_and_permuted_axes_give_the_same_anatomy(cases: Path, weights: Path, tmp_path: Path, axes: str) -> None:
    for folder in list(cases.iterdir())[1:]:
        shutil.rmtree(folder)
    run(cases, tmp_path / "plain", weights)
    turned = np.array(
        [["xyz".index(axis), -1 if sign == "-" else 1] for axis, sign in zip(axes[:3], axes[3:], strict=True)], float
    )
    for path in cases.glob("*/*.nii.gz"):
        nib.load(path).as_reoriented(turned).to_filename(path)
    run(cases, tmp_path / "turned", weights)
    (plain,) = (nib.load(path) for path in (tmp_path / "plain").iterdir())
    (other,) = (nib.load(path) for path in (tmp_path / "turned").iterdir())
    assert not np.allclose(plain.affine, other.affine)
    same_axes = other.as_reoriented(
        nio.ornt_transform(nio.io_orientation(other.affine), nio.io_orientation(plain.affine))
    )
    np.testing.assert_array_equal(np.asarray(plain.dataobj), np.asarray(same_axes.dataobj))


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
    predict = Ensemble.predict
    monkeypatch.setattr(Ensemble, "predict", lambda *args: predict(*args) * np.float32("nan"))
    results = run(cases, tmp_path / "out", weights)
    assert all("NaN" in result.message and result.status is Status.FAILED for result in results.values())
    assert not labels_in(tmp_path / "out")


def test_network_that_finds_nothing_writes_an_empty_map_and_says_so(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Ensemble.predict
    monkeypatch.setattr(Ensemble, "predict", lambda *args: predict(*args) * np.float32(0))
    results = run(cases, tmp_path / "out", weights)
    assert all(result.status is Status.WRITTEN for result in results.values())
    assert all("no tumor was found" in " ".join(result.warnings) for result in results.values())
    assert not any(labels.any() for labels in labels_in(tmp_path / "out").values())


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


def test_resume_keeps_whole_maps_and_makes_damaged_ones_again(cases: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(cases, output, weights)
    first, second, third = sorted(output.iterdir())
    expected = second.read_bytes()
    second.write_bytes(expected[:-20])
    third.unlink()
    before = first.stat().st_mtime_ns
    results = run(cases, output, weights, resume=True)
    assert [result.status for result in results.values()] == [Status.SKIPPED, Status.WRITTEN, Status.WRITTEN]
    assert first.stat().st_mtime_ns == before
    assert second.read_bytes() == expected


def test_resume_makes_maps_again_that_break_the_contract(cases: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(cases, output, weights)
    written = {path.name: path.read_bytes() for path in output.iterdir()}
    first, second, _ = sorted(output.iterdir())
    image = nib.load(first)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine, image.header), first)
    second.rename(tmp_path / "elsewhere.nii.gz")
    second.symlink_to(tmp_path / "elsewhere.nii.gz")
    results = run(cases, output, weights, resume=True)
    assert [result.status for result in results.values()] == [Status.WRITTEN, Status.WRITTEN, Status.SKIPPED]
    assert {path.name: path.read_bytes() for path in output.iterdir()} == written
    assert not second.is_symlink()


def test_resume_tries_a_case_again_that_was_left_blank(cases: Path, weights: Path, tmp_path: Path) -> None:
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:-100])
    results = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK)
    assert results["BraTS-GLI-01001-000"].status is Status.BLANK
    again = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK, resume=True)
    assert again["BraTS-GLI-01001-000"].status is Status.BLANK, "still broken, and still said"
    broken.write_bytes(content)
    mended = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK, resume=True)
    assert [result.status for result in mended.values()] == [Status.SKIPPED, Status.WRITTEN, Status.SKIPPED]


def test_resume_keeps_a_whole_map_whatever_became_of_the_images(cases: Path, weights: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "out", weights)
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    first, second, third = sorted(cases.iterdir())
    (first / f"{first.name}-t2w.nii.gz").unlink()
    (first / f"{first.name}-t1n.nii.gz").write_bytes(b"damaged since")
    shutil.rmtree(second)
    second.mkdir()
    shutil.copytree(third, cases / "again" / third.name)  # of which of the two is its map?
    settings = Settings(resume=True, on_error=OnError.BLANK)
    results = segment_folder(cases, tmp_path / "out", task="gli", weights=weights, device="cpu", settings=settings)
    assert [result.status for result in results] == [Status.SKIPPED, Status.SKIPPED, Status.BLANK, Status.BLANK]
    kept = {name: content for name, content in written.items() if not name.startswith(third.name)}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}.items() >= kept.items()


def test_resume_looks_at_the_grid_of_the_images_and_of_probabilities(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    settings = {"resume": True, "probabilities": tmp_path / "p"}
    run(cases, tmp_path / "out", weights, **settings)
    (cases / "BraTS-GLI-01000-000" / "BraTS-GLI-01000-000-t1n.nii.gz").write_bytes(b"damaged since")
    for name in ("t1c", "t2w", "t2f"):
        path = cases / "BraTS-GLI-01000-000" / f"BraTS-GLI-01000-000-{name}.nii.gz"
        image = nib.load(path)
        nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3)).to_filename(path)
    moved = tmp_path / "p" / "BraTS-GLI-01001-000.nii.gz"
    image = nib.load(moved)
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3), image.header).to_filename(moved)
    results = run(cases, tmp_path / "out", weights, **settings)
    assert [result.status for result in results.values()] == [Status.FAILED, Status.WRITTEN, Status.SKIPPED]


def test_a_full_disk_ends_the_run_where_a_blank_map_was_to_be_written(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("no space left")

    for path in (cases / "BraTS-GLI-01000-000").iterdir():
        path.write_bytes(b"")
    monkeypatch.setattr(endings, "write_labels", full)
    with pytest.raises(OutputError, match="no space left"):
        run(cases, tmp_path / "out", weights, on_error=OnError.BLANK)


def test_no_more_cases_wait_for_the_disk_than_are_written_at_once(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, third = pipeline.write_labels, threading.Event()
    early: list[bool] = []

    def stage(case_id: str, name: str) -> None:
        if (case_id, name) == ("BraTS-GLI-01002-000", "network"):
            third.set()

    def slowly(*given: Any) -> None:
        early.append(third.wait(60 if early else 1))
        write(*given)

    monkeypatch.setattr(pipeline, "write_labels", slowly)
    segment_folder(cases, tmp_path / "out", task="gli", weights=weights, device="cpu", watcher=Watcher(stage=stage))
    assert early == [False, True, True]


def test_all_computes_on_the_threads_that_it_may_have(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr("os.cpu_count", lambda: before + 2)
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 1))
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

    crop, geometry, times = pipeline.crop_to_brain, endings.read_geometry, iter(range(99))
    monkeypatch.setattr(pipeline, "crop_to_brain", lambda volumes: crop(volumes) if next(times) else no_memory())
    failed = run(cases, tmp_path / "fail", weights)["BraTS-GLI-01000-000"]
    assert "BraTS-GLI-01000-000: does not fit into memory" in failed.message
    monkeypatch.setattr(pipeline, "crop_to_brain", no_memory)
    monkeypatch.setattr(endings, "read_geometry", lambda path: no_memory() if "01000" in path.name else geometry(path))
    results = run(cases, tmp_path / "blank", weights, on_error=OnError.BLANK)
    assert [result.status for result in results.values()] == [Status.FAILED, Status.BLANK, Status.BLANK]


def test_probabilities_are_those_behind_the_labels(cases: Path, weights: Path, tmp_path: Path) -> None:
    whole = {"dust": 0, "component_probability": 0}
    run(cases, tmp_path / "out", weights, probabilities=tmp_path / "p", mode=Mode.ACCURATE, **whole)
    for name, labels in labels_in(tmp_path / "out").items():
        probabilities = nib.load(tmp_path / "p" / name).get_fdata()
        assert probabilities.shape == (*SHAPE, 3)
        assert 0 <= probabilities.min() < probabilities.max() <= 1
        assert (probabilities[labels == 3].min(axis=0) >= np.array((0.45, 0.40, 0.45)) - 1 / 510).all()
        found = labels_from_probabilities(torch.from_numpy(np.moveaxis(probabilities, -1, 0)), GLI).numpy()
        assert (found == labels).mean() > 0.99, "but for holes, and roundings to a byte"
        assert len(np.unique(found)) == 4


def test_probabilities_of_a_case_that_fails_now_are_removed_and_those_missing_are_made(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    names = {f"BraTS-GLI-0100{i}-000.nii.gz" for i in range(3)}
    run(cases, tmp_path / "out", weights)
    resumed = run(cases, tmp_path / "out", weights, resume=True, probabilities=tmp_path / "p")
    assert {result.status for result in resumed.values()} == {Status.WRITTEN}
    assert {path.name for path in (tmp_path / "p").iterdir()} == names
    again = run(cases, tmp_path / "out", weights, resume=True, probabilities=tmp_path / "p")
    assert {result.status for result in again.values()} == {Status.SKIPPED}
    whole = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    for name, content in zip(sorted(names), (b"", None, whole[min(names)][:300]), strict=True):
        if content is not None:
            (tmp_path / "p" / name).write_bytes(content)
    mended = run(cases, tmp_path / "out", weights, resume=True, probabilities=tmp_path / "p")
    assert [result.status for result in mended.values()] == [Status.WRITTEN, Status.SKIPPED, Status.WRITTEN]
    assert {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()} == whole
    (cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz").unlink()
    for policy in OnError:
        (tmp_path / "p" / "BraTS-GLI-01001-000.nii.gz").touch()
        run(cases, tmp_path / "out", weights, probabilities=tmp_path / "p", on_error=policy)
        assert {path.name for path in (tmp_path / "p").iterdir()} == names - {"BraTS-GLI-01001-000.nii.gz"}


@pytest.mark.parametrize(("mode", "flips"), [(mode, flips) for mode in Mode for flips in (False, True)])
def test_mode_and_flips_reach_the_networks(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, flips: bool
) -> None:
    asked: list[tuple[object, ...]] = []
    predict = Ensemble.predict

    def watched(*given: Any) -> Tensor:
        asked.append(given[2:4])
        return predict(*given)

    monkeypatch.setattr(Ensemble, "predict", watched)
    run(cases, tmp_path / "out", weights, mode=mode, flips=flips)
    assert asked == [(mode, flips)] * 3


def test_shards_share_the_cases_without_overlap(cases: Path, weights: Path, tmp_path: Path) -> None:
    parts = [
        segment_folder(cases, tmp_path / "out", weights=weights, device="cpu", shard=(k, 2), settings=Settings())
        for k in (1, 2)
    ]
    assert [len(part) for part in parts] == [2, 1]
    assert len(labels_in(tmp_path / "out")) == 3


@pytest.mark.parametrize("shard", [(0, 4), (5, 4), (1, 0)])
def test_part_that_there_is_not_is_refused(cases: Path, weights: Path, tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="1 <= k <= n"):
        segment_folder(cases, tmp_path / "out", weights=weights, shard=shard)


def test_folders_may_be_given_as_text(cases: Path, weights: Path, tmp_path: Path) -> None:
    settings = Settings(probabilities=str(tmp_path / "p"))  # type: ignore[arg-type] # as a notebook gives it
    segment_folder(str(cases), str(tmp_path / "out"), weights=str(weights), device="cpu", settings=settings)
    assert len(labels_in(tmp_path / "out")) == len(list((tmp_path / "p").iterdir())) == 3


def test_mixed_folder_takes_each_task_from_the_case_id(samples: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(samples, tmp_path / "input"))
    list(write_cohort(both, "men", 1, seed=2, shape=SHAPE))
    weights = tmp_path / "weights"
    weights.mkdir()
    gli = write_weights(weights, [random_network(seed=5)])
    write_manifest(weights, [*gli, *(replace(member, task="men") for member in gli)])
    results = segment_folder(both, tmp_path / "out", weights=weights, device="cpu")
    assert [result.task for result in results] == ["gli", "gli", "gli", "men"]


def test_case_of_thick_slices_is_resampled_and_given_back_on_its_grid(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    for path in cases.glob("*01000*/*-t*.nii.gz"):
        image = nib.load(path)
        thick = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, ::3], image.affine @ np.diag([1, 1, 3, 1]))
        thick.to_filename(path)
    results = run(cases, tmp_path / "out", weights)
    assert labels_in(tmp_path / "out")["BraTS-GLI-01000-000.nii.gz"].shape == (30, 34, 9)
    assert "resampled" in " ".join(results["BraTS-GLI-01000-000"].warnings)


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

    watcher = Watcher(stage=stage, finished=finished, result=result)
    segment_folder(cases, tmp_path / "out", task="gli", weights=weights, device="cpu", watcher=watcher)
    assert waited == [True, True]
    assert told == list(began)


def test_beside_a_gpu_several_cases_are_read_and_written_at_once_and_told_in_order(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No case can be read to its end, and no map be written, before the others are at it too."""
    reading, writing = (threading.Barrier(3, timeout=60) for _ in range(2))
    crop, write, told = pipeline.crop_to_brain, pipeline.write_labels, list[str]()
    monkeypatch.setattr(pipeline, "pick_device", lambda _: torch.device("cpu:0"))  # not the CPU, to the pipeline
    with monkeypatch.context() as context:
        context.setattr(pipeline, "CASES_BESIDE_A_GPU", 1)
        run(cases, tmp_path / "alone", weights)
    monkeypatch.setattr(pipeline, "crop_to_brain", lambda volumes: (reading.wait(), crop(volumes))[1])
    monkeypatch.setattr(pipeline, "write_labels", lambda *given: (writing.wait(), write(*given))[1])
    watcher = Watcher(result=lambda ended: told.append(ended.id))
    results = segment_folder(cases, tmp_path / "together", task="gli", weights=weights, watcher=watcher)
    assert [result.status for result in results] == [Status.WRITTEN] * 3
    assert told == [result.id for result in results]
    found, expected = labels_in(tmp_path / "together"), labels_in(tmp_path / "alone")
    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_wrong_folders_and_weights_are_told_before_any_case_is_read(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(pipeline, "read_images", read.append)
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


def test_older_map_of_a_case_that_fails_now_is_removed_and_said(cases: Path, weights: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "out", weights)
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-100])
    result = run(cases, tmp_path / "out", weights)["BraTS-GLI-01001-000"]
    assert result.message.endswith("(its map of an earlier run was removed)")
    assert sorted(labels_in(tmp_path / "out")) == ["BraTS-GLI-01000-000.nii.gz", "BraTS-GLI-01002-000.nii.gz"]
    again = run(cases, tmp_path / "out", weights)["BraTS-GLI-01001-000"]
    assert "removed" not in again.message


def test_older_map_that_cannot_be_removed_ends_the_run(cases: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "BraTS-GLI-01001-000.nii.gz").mkdir(parents=True)
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    broken.unlink()
    with pytest.raises(OutputError, match=r"BraTS-GLI-01001-000\.nii\.gz: is of an earlier run and cannot be removed"):
        run(cases, tmp_path / "out", weights)


def test_resume_makes_a_map_on_another_grid_again(cases: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(cases, output, weights)
    moved = output / "BraTS-GLI-01001-000.nii.gz"
    expected = moved.read_bytes()
    image = nib.load(moved)
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3)).to_filename(moved)
    results = run(cases, output, weights, resume=True)
    assert [result.status for result in results.values()] == [Status.SKIPPED, Status.WRITTEN, Status.SKIPPED]
    assert moved.read_bytes() == expected
