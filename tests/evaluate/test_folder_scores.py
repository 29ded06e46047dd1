"""Folders of small label maps on disk: what is found, what is refused, what is missing."""

import io
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from brats_infer.errors import CaseError, NoCasesError, Terminated, UsageError
from brats_infer.evaluate import evaluate_folders, lesionwise_scores, processes
from brats_infer.evaluate.label_maps import read_reference
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import read_geometry, write_labels
from brats_infer.system.signals import raise_once
from brats_infer.tasks import task_named
from tests.evaluate.small_cohort import IDS, SHAPE, labels, write_cohort, write_map

GLI = task_named("gli")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and references of three cases, flat."""
    return write_cohort(tmp_path)


def test_every_case_is_scored_and_the_mean_is_plain(folders: tuple[Path, Path]) -> None:
    scores = evaluate_folders(*folders, GLI, jobs=1)
    assert list(scores.cases) == list(IDS)
    for number, case_id in enumerate(IDS):
        expected = lesionwise_scores(labels(number, shift=1), labels(number), GLI)
        assert scores.cases[case_id] == {region: asdict(columns) for region, columns in expected.items()}
    dices = [case["ET"]["lesionwise_dice"] for case in scores.cases.values()]
    assert scores.mean["ET"]["lesionwise_dice"] == pytest.approx(np.mean(dices))
    assert scores.missing == ()


def test_processes_give_what_one_gives_in_the_same_order(folders: tuple[Path, Path]) -> None:
    assert evaluate_folders(*folders, GLI, jobs=2) == evaluate_folders(*folders, GLI, jobs=1)


def test_references_in_case_folders_beside_images_are_found(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    flat = evaluate_folders(*folders, GLI, jobs=1)
    for case_id in IDS:
        for folder, name in ((references, f"{case_id}-seg.nii.gz"), (predictions, f"{case_id}.nii.gz")):
            (folder / case_id).mkdir()
            (folder / name).rename(folder / case_id / name)
        (references / case_id / f"{case_id}-t1n.nii.gz").touch()
    assert evaluate_folders(*folders, GLI, jobs=1) == flat


def test_missing_predictions_get_the_worst_scores_and_are_listed(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    (predictions / f"{IDS[1]}.nii.gz").unlink()
    write_map(references / f"{IDS[1]}-seg.nii.gz", np.zeros(SHAPE, np.uint8))  # even where there was nothing to find
    scores = evaluate_folders(predictions, references, GLI, jobs=1)
    assert scores.missing == (IDS[1],)
    for columns in scores.cases[IDS[1]].values():
        assert (columns["lesionwise_dice"], columns["legacy_dice"], columns["sensitivity"]) == (0, 0, 0)
        assert (columns["lesionwise_hd95"], columns["legacy_hd95"]) == (374, 374)
    others = [scores.cases[case_id]["WT"]["lesionwise_hd95"] for case_id in (IDS[0], IDS[2])]
    assert scores.mean["WT"]["lesionwise_hd95"] == pytest.approx((sum(others) + 374) / 3)


def test_lesions_of_a_missing_prediction_are_false_negatives(folders: tuple[Path, Path]) -> None:
    (folders[0] / f"{IDS[0]}.nii.gz").unlink()
    assert evaluate_folders(*folders, GLI, jobs=1).cases[IDS[0]]["WT"]["num_fn"] == 1


@pytest.mark.parametrize("name", ["BraTS-GLI-99999-000.nii.gz", f"{IDS[0]}-seg.nii.gz"])
def test_a_prediction_without_a_reference_is_named(folders: tuple[Path, Path], name: str) -> None:
    write_map(folders[0] / name, labels(0))
    with pytest.raises(UsageError, match=name):
        evaluate_folders(*folders, GLI, jobs=1)


def test_a_case_found_twice_is_named(folders: tuple[Path, Path]) -> None:
    (folders[0] / "again").mkdir()
    shutil.copy(folders[0] / f"{IDS[2]}.nii.gz", folders[0] / "again")
    with pytest.raises(UsageError, match=rf"again/{IDS[2]}\.nii\.gz"):
        evaluate_folders(*folders, GLI, jobs=1)


def test_all_faults_are_named_at_once(folders: tuple[Path, Path]) -> None:
    predictions, references = folders
    write_map(predictions / f"{IDS[0]}.nii.gz", np.zeros((9, 9, 9), np.uint8))
    unknown = labels(1)
    unknown[0, 0, 0] = 4
    write_map(references / f"{IDS[1]}-seg.nii.gz", unknown)
    (predictions / f"{IDS[2]}.nii.gz").write_bytes(b"\x1f\x8b damaged")
    stream = io.StringIO()
    with pytest.raises(CaseError) as caught:
        evaluate_folders(predictions, references, GLI, jobs=2, console=Console(file=stream))
    assert [line.split(": ")[1] for line in stream.getvalue().splitlines()] == ["failed"] * 3
    message = str(caught.value)
    assert "3 of 3 cases" in message
    assert f"{predictions}/{IDS[0]}.nii.gz: its shape (9, 9, 9) is not {SHAPE} of" in message
    assert f"{references}/{IDS[1]}-seg.nii.gz: holds the label 4" in message
    assert f"{predictions}/{IDS[2]}.nii.gz: cannot be read" in message


@pytest.mark.parametrize("until_2021", ["Brats18_TCIA02_{}_1", "BraTS20_Training_{}", "BraTS2021_{:05d}"])
def test_enhancing_tumor_that_is_4_as_until_2021_is_scored_in_references_only(
    folders: tuple[Path, Path], until_2021: str
) -> None:
    plain = evaluate_folders(*folders, GLI, jobs=1)
    for number, case_id in enumerate(IDS):
        old, name = labels(number), until_2021.format(number)
        old[old == 3] = 4
        (folders[1] / f"{case_id}-seg.nii.gz").unlink()
        write_map(folders[1] / f"{name}_seg.nii.gz", old)
        (folders[0] / f"{case_id}.nii.gz").rename(folders[0] / f"{name}.nii.gz")
    assert evaluate_folders(*folders, GLI, jobs=1).mean == plain.mean
    with_its_own = replace(
        GLI,
        regions=(*GLI.regions[:2], replace(GLI.regions[2], labels=(4,), label=4)),
        label_names=("NCR", "ED", "", "ET"),
    )
    assert 4 in read_reference(folders[1] / f"{name}_seg.nii.gz", with_its_own).data
    write_map(folders[0] / f"{name}.nii.gz", old)
    with pytest.raises(CaseError, match=rf"predictions/{name}\.nii\.gz: holds the label 4"):
        evaluate_folders(*folders, GLI, jobs=1)


@pytest.mark.parametrize("mm", [5.0, 0.11])
def test_a_prediction_moved_in_space_is_refused(folders: tuple[Path, Path], mm: float) -> None:
    path = folders[0] / f"{IDS[0]}.nii.gz"
    here = read_geometry(path)
    fields = {**here.fields, "srow_x": here.fields["srow_x"] + np.float32([0, 0, 0, mm])}
    write_labels(path, labels(0), Geometry(here.shape, here.affine, fields))
    with pytest.raises(CaseError, match=rf"{IDS[0]}\.nii\.gz: its affine differs by {mm:.3g}"):
        evaluate_folders(*folders, GLI, jobs=1)


def test_a_missing_prediction_has_the_worst_of_every_score_also_where_nothing_is_to_be_found(
    folders: tuple[Path, Path],
) -> None:
    (folders[0] / f"{IDS[0]}.nii.gz").unlink()
    write_map(folders[1] / f"{IDS[0]}-seg.nii.gz", np.where(labels(0) == 3, 1, labels(0)).astype(np.uint8))  # no ET
    for scores in evaluate_folders(*folders, GLI, jobs=1).cases[IDS[0]].values():
        none = ("sensitivity", "specificity", "legacy_dice", "lesionwise_dice")
        assert {name: scores[name] for name in none} == dict.fromkeys(none, 0.0)
        assert scores["legacy_hd95"] == scores["lesionwise_hd95"] == GLI.metrics.penalty_mm


def test_the_spacing_of_the_file_counts(tmp_path: Path) -> None:
    folders = write_cohort(tmp_path, spacing=(0.5, 1.0, 2.5))
    expected = lesionwise_scores(labels(0, shift=1), labels(0), GLI, (0.5, 1.0, 2.5))["WT"]
    assert evaluate_folders(*folders, GLI, jobs=1).cases[IDS[0]]["WT"] == asdict(expected)


def test_a_rotated_grid_of_1_mm_ignores_lesions_of_50_voxels(tmp_path: Path) -> None:
    """In float32 the edges of its voxels come out a little longer than 1 mm."""
    reference = np.zeros(SHAPE, np.uint8)
    reference[2:7, 2:7, 2:4] = 2
    folders = write_cohort(tmp_path, angle=0.3)
    for folder, name in zip(folders, (f"{IDS[0]}.nii.gz", f"{IDS[0]}-seg.nii.gz"), strict=True):
        write_map(folder / name, reference if folder == folders[1] else np.zeros(SHAPE, np.uint8), angle=0.3)
    assert evaluate_folders(*folders, GLI, jobs=1).cases[IDS[0]]["WT"]["num_fn"] == 0


def test_a_file_that_is_prediction_and_reference_is_named(folders: tuple[Path, Path]) -> None:
    """It would score 1."""
    with pytest.raises(UsageError, match=rf"{IDS[0]}\.nii\.gz: is the prediction and the reference"):
        evaluate_folders(folders[0], folders[0], GLI)


def test_folders_without_cases_are_said_to_be_so(folders: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NoCasesError, match="no prediction"):
        evaluate_folders(empty, folders[1], GLI)
    with pytest.raises(NoCasesError, match="no reference"):
        evaluate_folders(folders[0], empty, GLI)
    with pytest.raises(UsageError, match="absent: cannot be read"):
        evaluate_folders(tmp_path / "absent", folders[1], GLI)
    with pytest.raises(UsageError, match="unknown metrics '2022'"):
        evaluate_folders(*folders, GLI, metrics="2022")


def test_progress_is_a_line_a_case_where_there_is_no_terminal(folders: tuple[Path, Path]) -> None:
    stream = io.StringIO()
    evaluate_folders(*folders, GLI, jobs=1, console=Console(file=stream))
    assert stream.getvalue().splitlines() == [f"[{n}/3] {case_id}: scored" for n, case_id in enumerate(IDS, 1)]


def test_maps_of_the_cohort_are_worth_scoring() -> None:
    maps: list[NDArray[np.uint8]] = [labels(number) for number in range(3)]
    assert all(set(np.unique(one)) == {0, 1, 2, 3} for one in maps)


def test_a_signal_waits_until_the_workers_are_started(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = []

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            submitted.append(args)
            signal.raise_signal(signal.SIGTERM)
            return super().submit(*args, **kwargs)

    monkeypatch.setattr(processes, "_pool", lambda _: Interrupted(1))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        raise_once()
        with pytest.raises(Terminated):
            evaluate_folders(*folders, GLI, jobs=2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(submitted) == len(IDS)


def test_a_table_that_cannot_be_written_costs_no_scores(tmp_path: Path) -> None:
    predictions, references = write_cohort(tmp_path)
    folders = [f"--predictions={predictions}", f"--references={references}"]
    command = [sys.executable, str(ROOT / "entrypoint.py"), "evaluate", "--task=gli", "--jobs=1", *folders]
    command.append(f"--csv={tmp_path / 'absent' / 'scores.csv'}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "scores.csv: cannot be written" in done.stderr
    assert all(case_id in done.stdout for case_id in IDS)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_workers_end_with_the_command(tmp_path: Path, number: int, code: int) -> None:
    predictions, references = write_cohort(tmp_path)
    command = [sys.executable, str(ROOT / "entrypoint.py"), "evaluate", "--task", "gli", "--jobs", "2"]
    command += ["--predictions", str(predictions), "--references", str(references)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers: list[str] = []
        while len(workers) < 2 and process.poll() is None:
            workers = listed.read_text().split()
        process.send_signal(number)
        assert process.wait(60) == code
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < deadline, "left behind"
            time.sleep(0.05)
