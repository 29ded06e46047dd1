"""Searches: they find what is planted, go on where they stopped, and are never mixed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.evaluate import evaluate_folders
from brats_infer.files.geometry import Geometry
from brats_infer.files.labels import read_probabilities
from brats_infer.files.nifti import write_labels, write_probabilities
from brats_infer.labelling.label_map import labels_from_probabilities
from brats_infer.labelling.postprocess import clean_up
from brats_infer.phantom.write import write_cohort
from brats_infer.settings import Settings
from brats_infer.tasks import TASKS
from brats_infer.train.loop import LossIsNoNumberError
from brats_infer.train.step.losses import loss_weights
from brats_infer.train.tune import loss_weights as tune_losses
from brats_infer.train.tune import post_processing as tune_thresholds
from brats_infer.train.tune import study
from brats_infer.train.tune.post_processing import lesionwise_dice, read_stored
from brats_infer.train.tune.study import search
from tests.test_cli import brats_opt

optuna = pytest.importorskip("optuna")

GLI = TASKS["gli"]
SHAPE = (36, 32, 30)
IDS = [f"BraTS-GLI-0000{i}-000" for i in range(3)]
SETTINGS = Settings(dust=50, component_probability=0.4)
GEOMETRY = Geometry.of_affine(SHAPE, np.diag([-1.0, -1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probabilities of WT that are too low for the present thresholds, with false specks of 64 voxels."""
    folder = tmp_path_factory.mktemp("stored")
    for name in ("labels", "probabilities"):
        (folder / name).mkdir()
    at = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"))
    for number, case_id in enumerate(IDS):
        distance = np.sqrt(((at - np.array([14 + number, 14, 14])[:, None, None, None]) ** 2).sum(axis=0))
        labels = np.select([distance < 4, distance < 6, distance < 8], [1, 3, 2], 0).astype(np.uint8)
        truth = np.stack([np.isin(labels, region.labels) for region in GLI.regions])
        probabilities = np.where(truth, 0.42, 0.1).astype(np.float32)
        probabilities[2][truth[2]] = 0.75
        probabilities[:, 28:32, 24:28, 24:28] = 0.42
        write_labels(folder / "labels" / f"{case_id}-seg.nii.gz", labels, GEOMETRY)
        write_probabilities(folder / "probabilities" / f"{case_id}.nii.gz", probabilities, GEOMETRY)
    return folder


def thresholds(folder: Path, out: Path, trials: int, **changes: Any) -> dict[str, Any]:
    settings = {"references": folder / "labels", "seed": 0} | changes
    return tune_thresholds.tune_thresholds(
        settings.pop("task", GLI), folder / "probabilities", out=out, trials=trials, **settings
    )


def test_better_values_are_found_and_bad_trials_pruned_before_their_last_case(folder: Path, tmp_path: Path) -> None:
    found = thresholds(folder, tmp_path, 40)
    assert found["present dice"] == 0
    assert found["dice"] > 0.9
    assert found["trials"] == 40
    assert 0.1 < found["thresholds"]["WT"] <= 0.42
    assert found["dust"] >= 64 or found["component_probability"] > 0.42
    trials = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / study.STUDY}").trials
    pruned = [trial for trial in trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert pruned
    assert all(len(trial.intermediate_values) < len(IDS) for trial in pruned)


def test_search_that_was_stopped_goes_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert thresholds(folder, tmp_path, 3)["trials"] == 3
    assert thresholds(folder, tmp_path, 5)["trials"] == 5
    monkeypatch.setattr(tune_thresholds, "lesionwise_dice", None)
    assert thresholds(folder, tmp_path, 5)["trials"] == 5
    numbers = [
        trial.params
        for trial in optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / study.STUDY}").trials
    ]
    assert len({json.dumps(params) for params in numbers}) == 5


def test_present_values_are_tried_though_the_search_was_stopped_over_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tune_thresholds, "lesionwise_dice", stopped)
        with pytest.raises(KeyboardInterrupt):
            thresholds(folder, tmp_path, 3)
    assert thresholds(folder, tmp_path, 3)["present dice"] == thresholds(folder, tmp_path / "new", 1)["dice"]


def test_search_on_something_else_is_not_mixed_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert thresholds(folder, tmp_path, 1)["cases"] == len(IDS)
    with pytest.raises(UsageError, match=r"study.db: searches on other cases or options"):
        thresholds(folder, tmp_path, 2, task=TASKS["men"])
    shutil.copytree(folder / "labels", tmp_path / "labels")
    assert thresholds(folder, tmp_path, 1, references=tmp_path / "labels")["trials"] == 1, "the same, elsewhere"
    write_labels(tmp_path / "labels" / f"{IDS[0]}-seg.nii.gz", np.zeros(SHAPE, np.uint8), GEOMETRY)
    with pytest.raises(UsageError, match=r"study.db: searches on other cases or options"):
        thresholds(folder, tmp_path, 1, references=tmp_path / "labels")
    names = (folder / "probabilities" / f"{IDS[0]}.nii.gz", folder / "labels" / f"{IDS[0]}-seg.nii.gz")
    stored = read_stored(IDS[0], *names, GLI)
    assert replace(stored, probabilities=stored.probabilities / 2).sha256 != stored.sha256
    monkeypatch.setattr(tune_thresholds, "threshold_of", lambda region: f"{region.name} limit")
    with pytest.raises(UsageError, match=r"study.db: searches on other cases or options"):
        thresholds(folder, tmp_path, 2)


def test_value_is_the_score_of_the_container_and_the_official_evaluation(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "found").mkdir()
    values = []
    for case_id in IDS:
        stored, _ = read_probabilities(folder / "probabilities" / f"{case_id}.nii.gz")
        noisy = np.clip(stored * 1.8 + 0.1 * rng.standard_normal(stored.shape), 0, 1).astype(np.float32)
        write_probabilities(tmp_path / f"{case_id}.nii.gz", noisy, GEOMETRY)
        kept, _ = read_probabilities(tmp_path / f"{case_id}.nii.gz")
        labels = clean_up(labels_from_probabilities(torch.from_numpy(kept), GLI).numpy(), kept, GLI, 1.0, SETTINGS)
        write_labels(tmp_path / "found" / f"{case_id}.nii.gz", labels, GEOMETRY)
        reference = folder / "labels" / f"{case_id}-seg.nii.gz"
        values.append(
            lesionwise_dice(read_stored(case_id, tmp_path / f"{case_id}.nii.gz", reference, GLI), GLI, SETTINGS)
        )
    mean = evaluate_folders(tmp_path / "found", folder / "labels", GLI, jobs=1).mean
    assert 0 < np.mean(values) < 1
    assert np.mean(values) == pytest.approx(np.mean([region["lesionwise_dice"] for region in mean.values()]))


def test_references_of_another_grid_are_refused(folder: Path, tmp_path: Path) -> None:
    small = Geometry.of_affine((8, 8, 8), np.eye(4))
    turned = Geometry.of_affine(SHAPE, np.eye(4))
    reference = folder / "labels" / f"{IDS[0]}-seg.nii.gz"
    for geometry, what in ((small, r"its shape .* is not \(8, 8, 8\) of a"), (turned, "its affine differs by 2 mm")):
        write_probabilities(tmp_path / "a.nii.gz", np.zeros((3, *geometry.shape), np.float32), geometry)
        with pytest.raises(CaseError, match=rf"{reference.name}: {what}"):
            read_stored("a", tmp_path / "a.nii.gz", reference, GLI)


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"install brats-opt\[train\]"):
        study.search(lambda _: 0.0, tmp_path, {}, 1, 0)


def test_command_line_tells_the_best_thresholds(folder: Path, tmp_path: Path) -> None:
    given = ("--probabilities", folder / "probabilities", "--references", folder / "labels", "--out", tmp_path)
    done = brats_opt("tune", "thresholds", "--task", "gli", *given, "--trials", 2)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["thresholds"]) == {"WT", "TC", "ET"}


QUICK: dict[str, Any] = {"channels": (2, 3), "patch": 8, "steps": 2, "validate_every": 1, "folds": 2, "fold": 0}


def losses(data: Path, out: Path, trials: int, terms: tuple[str, ...] = ("dice", "ce"), **given: Any) -> dict[str, Any]:
    return tune_losses.tune_losses(
        QUICK | given, terms=terms, task="gli", data=data, out=out, trials=trials, device="cpu"
    )


def test_weights_of_losses_are_searched_by_trainings(tmp_path: Path) -> None:
    list(write_cohort(tmp_path / "data", "gli", 2, seed=6, shape=(20, 22, 18)))
    found = losses(tmp_path / "data", tmp_path / "out", 2)
    weights = loss_weights(found["loss"])
    assert weights["dice"] == 1
    assert tune_losses.WEIGHTS[0] <= weights["ce"] <= tune_losses.WEIGHTS[1]
    settings = [json.loads((tmp_path / "out" / f"trial-{i}" / "settings.json").read_text()) for i in range(2)]
    assert found["loss"] in {each["loss"] for each in settings}
    assert len({each["loss"] for each in settings}) == 2
    assert losses(tmp_path / "data", tmp_path / "out", 2) == found
    with pytest.raises(UsageError, match="other cases or options"):
        losses(tmp_path / "data", tmp_path / "out", 3, seed=1)


def test_only_a_loss_that_is_no_number_is_a_trial_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(write_cohort(tmp_path / "data", "gli", 2, seed=6, shape=(20, 22, 18)))

    def failing(error: Exception) -> None:
        def train(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(tune_losses, "train", train)

    failing(LossIsNoNumberError("nan"))
    with pytest.raises(UsageError, match="no trial was finished"):
        losses(tmp_path / "data", tmp_path / "nan", 2)
    failing(UsageError("the folder is of another run"))
    with pytest.raises(UsageError, match="of another run"):
        losses(tmp_path / "data", tmp_path / "other", 2)


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + b"nothing" * 1000)
    with pytest.raises(OutputError, match=r"study\.db: cannot be used"):
        search(lambda _: 0.0, tmp_path, {}, 1, 0)


@pytest.mark.parametrize("terms", [("dice",), ("dice", "hinge"), ("ce", "ce")])
def test_terms_that_are_none_are_refused(tmp_path: Path, terms: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"--terms {','.join(terms)}: choose two or more of mse, ce"):
        losses(tmp_path, tmp_path / "out", 1, terms)
