"""`brats-opt train` as a command: recipes, folds, initial weights, and what is refused."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brats_infer.cli import main
from brats_infer.cohort import segment_folder
from brats_infer.errors import OutputError, UsageError, WeightsError
from brats_infer.evaluate import evaluate_folders
from brats_infer.image.normalise import Normalisation
from brats_infer.phantom.write import write_cohort
from brats_infer.tasks import TASKS
from brats_infer.train import run as command
from brats_infer.train.checkpoint import BEST, SETTINGS
from brats_infer.train.run import run
from brats_infer.train.step.losses import LOSSES, TERMS
from model.atomic import alone_in
from model.checkpoint import read_manifest
from model.config import UNetConfig
from tests.case_files import SHAPE, write_case, write_image
from tests.small_networks import random_network, write_weights
from tests.test_cli import brats_opt

TINY: dict[str, Any] = {
    "channels": (2, 3),
    "patch": 8,
    "steps": 1,
    "validate_every": 1,
    "warm_up": 0,
    "learning_rate": 0.1,
}
OTHERS: dict[str, Any] = {"recipe": None, "task": "gli", "init": None}
OTHERS |= {"publish_to": None, "trained_on": "", "licence": ""}
IDS = [f"BraTS-GLI-0300{i}-000" for i in range(3)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert list(write_cohort(folder, "gli", 3, seed=3, shape=(20, 22, 18))) == IDS
    return folder


def train(given: dict[str, Any], data: Path, out: Path, **others: Any) -> dict[str, Any]:
    return run(TINY | given, data=data, out=out, device="cpu", **{**OTHERS, **others})


def settings_of(folder: Path) -> dict[str, Any]:
    settings = json.loads((folder / SETTINGS).read_text())
    assert isinstance(settings, dict)
    return settings


def test_command_line_trains_with_a_recipe_and_explicit_options_win(data: Path, tmp_path: Path) -> None:
    small = ["--channels", "2,3", "--patch", 8, "--steps", 1, "--folds", 3, "--no-amsgrad"]
    done = brats_opt(
        *("train", "--recipe", "table2-dice-focal-edge", "--data", data, "--out", tmp_path), *small, BRATS_OPT_SEED="7"
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"step", "loss", "patches_per_second", "score", "dice", "hd95", "cases"}
    settings = settings_of(tmp_path)
    assert settings["network"]["channels"] == [2, 3]
    chosen = ("loss", "learning_rate", "schedule", "amsgrad", "seed", "steps", "task")
    assert [settings[name] for name in chosen] == ["dice-focal-edge", 6e-5, "exponential", False, 7, 1, "gli"]
    assert settings["network"]["foreground"] is False
    assert sorted(settings["training"] + settings["validation"]) == IDS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "table6"], "--recipe table6: is unknown"),
        (["--recipe", "table4-on", "--init", "x"], "--recipe table4-on: trains nothing"),
        (["--recipe", "table5-freeze-none"], "give them with --init"),
        (["--task", "gli", "--freeze", "decoder"], "--freeze decoder: needs trained weights"),
        (["--task", "gli", "--init", "none.safetensors"], "--init none.safetensors: cannot be read"),
        (["--task", "gli", "--loss", "hinge"], "--loss hinge: choose dice-bce"),
        (["--task", "gli", "--normalisation", "tanh"], "--normalisation tanh: choose none, zscore"),
        (["--task", "gli", "--steps", "0"], "--steps: Input should be greater"),
        (["--task", "gli", "--steps", "3", "--epochs", "2"], "--steps and --epochs exclude each other"),
        (["--task", "gli", "--folds", "9"], "--folds 9: there are labelled cases of 3 patients only"),
        (["--task", "gli", "--folds", "3", "--fold", "3"], "--fold 3: choose one from 0 to 2"),
        (["--task", "gli", "--fold", "1"], "--fold 1: of how many: give --folds too"),
        (["--task", "gli", "--phantoms", "p", "--anatomy", "mni152"], "--phantoms and --anatomy: "),
        (["--task", "gli", "--phantom-share", "0.5"], "--phantom-share 0.5: of what: give --phantoms or --anatomy"),
        (["--task", "gli", "--amsgrad", "--optimizer", "sgd"], "--amsgrad: is for adam and adamw"),
        (["--task", "gli", "--loss", "dice=1,dice=2"], "--loss dice=1,dice=2: choose"),
        (["--task", "gli", "--loss", "dice=2,edge=-1"], "--loss dice=2,edge=-1: choose"),
        (["--task", "gli", "--seed", "9999999999"], "--seed: Input should be less"),
        (["--task", "gli", "--channels", "2,3,4", "--patch", "4"], "--patch 4: choose a multiple of 4"),
        (["--task", "gli", "--dropout", "1"], "--dropout: Input should be less"),
        (["--task", "gli", "--learning-rate", "inf"], "--learning-rate: Input should be a finite number"),
        (["--task", "gli", "--patch", "33"], "--patch 33: choose a multiple of 32"),
        ([], "--task: is missing"),
    ],
)
def test_what_cannot_work_is_one_line_that_names_the_option(
    data: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["brats-opt", "train", f"--data={data}", f"--out={tmp_path / 'out'}", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in said
    assert [line for line in said.strip().splitlines() if not line.startswith("warning: ")] == [
        said.strip().splitlines()[-1]
    ]
    assert not (tmp_path / "out").exists()


def test_help_lists_what_a_text_may_be(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["brats-opt", "train", "--help"])
    with pytest.raises(SystemExit):
        main()
    words = set(re.findall(r"[a-z+-]+", capsys.readouterr().out))
    assert words >= {*Normalisation, *LOSSES, *TERMS}


@pytest.mark.parametrize("words", [["train"], ["experiment", "table1"], ["tune", "losses"], ["tune", "thresholds"]])
def test_every_command_can_show_where_it_went_wrong(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["brats-opt", *words, "--debug", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


def test_a_folder_that_another_run_writes_to_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with alone_in(out), pytest.raises(UsageError, match="out: another run writes there"):
        train({}, data, out)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["cache"]
    train({}, data, out)


def test_where_to_publish_is_looked_at_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(WeightsError, match=r"manifest\.json"):
        train({}, data, tmp_path / "out", publish_to=tmp_path)
    assert not (tmp_path / "out").exists()


def test_what_is_lost_on_the_disk_in_the_middle_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "best.safetensors")

    monkeypatch.setattr(command, "draw_overlays", lost)
    with pytest.raises(OutputError, match=r"best\.safetensors: cannot be used \(No such file"):
        train({"hold_out": (IDS[0],)}, data, tmp_path)


def test_a_damaged_checkpoint_is_named_when_a_run_is_gone_on_with(data: Path, tmp_path: Path) -> None:
    train({"hold_out": (IDS[0],)}, data, tmp_path)
    best = tmp_path / BEST
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(OutputError, match=r"best\.safetensors: is damaged \(.*\): check the disk"):
        train({"hold_out": (IDS[0],)}, data, tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_a_users_matter(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "train", full)
    with pytest.raises(UsageError, match="too little memory: choose a smaller --patch, --batch or --channels"):
        train({}, data, tmp_path)


def test_what_a_killed_run_left_in_the_folder_is_removed(data: Path, tmp_path: Path) -> None:
    (tmp_path / ".brats-opt-left").touch()
    train({}, data, tmp_path)
    assert not (tmp_path / ".brats-opt-left").exists()


def test_a_recipe_of_a_fold_takes_cases_that_are_held_out_by_name(data: Path, tmp_path: Path) -> None:
    given = {"recipe": "table1-none", "task": None}
    train({"hold_out": (IDS[2],), "amsgrad": False}, data, tmp_path, **given)
    assert settings_of(tmp_path)["validation"] == [IDS[2]]


def test_real_cases_alone_need_some(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--phantom-share 0: all cases of .* are held out or skipped"):
        train({"hold_out": tuple(IDS), "phantom_share": 0.0}, data, tmp_path, phantoms=other_cohort(tmp_path))


def other_cohort(folder: Path) -> Path:
    assert list(write_cohort(folder / "phantoms", "gli", 1, seed=4, shape=(20, 22, 18)))
    return folder / "phantoms"


def test_a_damaged_file_is_no_interruption(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """click takes the end of any file for a user's Ctrl-D."""

    def ended(*_: object, **__: object) -> None:
        raise EOFError("ended early")

    monkeypatch.setattr(command, "load_cases", ended)
    monkeypatch.setattr(sys, "argv", ["brats-opt", "train", "--task=gli", f"--data={data}", f"--out={tmp_path}"])
    with pytest.raises(SystemExit) as exit_code:
        main()
    assert exit_code.value.code == 1
    assert "EOFError: ended early: this is a fault of brats-opt" in capsys.readouterr().err


def test_folds_become_an_ensemble_that_infers_and_nothing_is_published_twice(data: Path, tmp_path: Path) -> None:
    out, weights = tmp_path / "out", tmp_path / "weights"
    results = train({"folds": 3, "steps": 4}, data, out, publish_to=weights)
    assert list(results) == ["fold-0", "fold-1", "fold-2"]
    held_out = [settings_of(out / name)["validation"] for name in results]
    assert sorted(case_id for ids in held_out for case_id in ids) == IDS
    members = read_manifest(weights)
    assert [member.fold for member in members] == [0, 1, 2]
    assert train({"folds": 3, "steps": 4}, data, out, publish_to=weights) == results
    assert read_manifest(weights) == members
    done = brats_opt("--input", data, "--output", tmp_path / "labels", "--weights", weights)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "labels").iterdir())) == 3


def test_published_member_scores_as_training_reported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert list(write_cohort(data, "gli", 3, seed=3, shape=(40, 44, 36))) == IDS  # a voxel of a region weighs little
    given = {"steps": 200, "validate_every": 100, "ema": 0.5, "channels": (4, 8), "patch": 24, "hold_out": (IDS[0],)}
    reported = train(given, data, tmp_path / "run", publish_to=tmp_path / "weights")["cases"][IDS[0]]
    assert all(region["dice"] > 0.3 for region in reported.values())
    folders = ("--input", data, "--output", tmp_path / "labels", "--weights", tmp_path / "weights")
    done = brats_opt(*folders, "--dust", 0, "--component-probability", 0)
    assert done.returncode == 0, done.stderr
    found = evaluate_folders(tmp_path / "labels", data, TASKS["gli"], jobs=1).cases[IDS[0]]
    for region, scores in found.items():
        assert scores["legacy_dice"] == pytest.approx(reported[region]["dice"], abs=0.01)


def test_one_fold_lies_in_the_folder_itself(data: Path, tmp_path: Path) -> None:
    assert train({"folds": 3, "fold": 1}, data, tmp_path)["step"] == 1
    assert len(settings_of(tmp_path)["validation"]) == 1


def test_epochs_are_counted_in_training_cases_and_each_is_validated(data: Path, tmp_path: Path) -> None:
    given = {name: value for name, value in TINY.items() if name not in ("steps", "validate_every")}
    given |= {"epochs": 3, "hold_out": (IDS[0],), "clean_labels": True}
    run(given, data=data, out=tmp_path, device="cpu", **OTHERS)
    assert settings_of(tmp_path)["steps"] == 6
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [2, 4, 6]


def test_network_is_that_of_the_initial_member_unless_told_otherwise(data: Path, tmp_path: Path) -> None:
    network = random_network(UNetConfig(channels=(3, 4), foreground=False))
    write_weights(tmp_path, [network])
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("zscore+rescale", "zscore"))
    given = {"freeze": "encoder", "steps": 1, "patch": 8}
    settings = OTHERS | {"data": data, "device": "cpu", "init": tmp_path}
    run(given, out=tmp_path / "out", **settings)
    found = settings_of(tmp_path / "out")
    assert (found["network"]["channels"], found["network"]["foreground"], found["freeze"]) == ([3, 4], False, "encoder")
    assert found["normalisation"] == "zscore"
    with pytest.raises(UsageError, match="is of another network, it differs in"):
        run({**given, "channels": (3, 5)}, out=tmp_path / "other", **settings)


def test_a_run_starts_with_the_best_checkpoint_of_another(data: Path, tmp_path: Path) -> None:
    one, other, bare = tmp_path / "one", tmp_path / "other", tmp_path / "bare.safetensors"
    train({"normalisation": "zscore", "foreground": False}, data, one)
    given = {"steps": 1, "patch": 8}
    run(given, data=data, out=other, device="cpu", **OTHERS | {"init": one})
    first, second = settings_of(one), settings_of(other)
    assert (second["network"], second["normalisation"]) == (first["network"], "zscore")
    assert second["initial_sha256"] == hashlib.sha256((one / BEST).read_bytes()).hexdigest()
    bare.write_bytes((one / BEST).read_bytes())
    with pytest.raises(UsageError, match=r"--channels 2,3, without foreground .*: give --spacing and --normalisation"):
        run(given, data=data, out=tmp_path / "out", device="cpu", **OTHERS | {"init": bare})


def test_disjoint_labels_are_published_and_infer(data: Path, tmp_path: Path) -> None:
    train({"targets": "labels"}, data, tmp_path / "run", publish_to=tmp_path / "weights")
    (member,) = read_manifest(tmp_path / "weights")
    assert member.config.disjoint
    done = brats_opt("--input", data, "--output", tmp_path / "labels", "--weights", tmp_path / "weights")
    assert done.returncode == 0, done.stderr


def test_a_held_out_case_is_drawn(data: Path, tmp_path: Path) -> None:
    train({"hold_out": [IDS[0]]}, data, tmp_path)
    found, expert = ((tmp_path / f"{name}.png").read_bytes() for name in (IDS[0], f"{IDS[0]}-expert"))
    assert found.startswith(b"\x89PNG")
    assert expert.startswith(b"\x89PNG")
    assert found != expert


def test_a_task_of_other_contrasts_and_regions_is_trained_and_its_member_segments(tmp_path: Path) -> None:
    case_id, t1c = "BraTS-MEN-RT-0001-1", {"t1c": "_t1c"}
    write_case(tmp_path / "data", case_id, names=t1c)
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:8, 5:8, 4:7] = 1
    write_image(tmp_path / "data" / case_id / f"{case_id}-seg.nii.gz", labels)
    publish_to = tmp_path / "weights"
    train({}, tmp_path / "data", tmp_path / "run", task="men-rt", publish_to=publish_to, licence="-", trained_on="-")
    (member,) = read_manifest(publish_to)
    assert (member.config.modalities, member.config.regions) == (1, 1)
    (result,) = segment_folder(tmp_path / "data", tmp_path / "out", weights=publish_to, device="cpu")
    assert (result.task, result.message) == ("men-rt", "")


@pytest.mark.parametrize(
    ("task", "given", "words"),
    [
        ("ped", {"targets": "labels"}, "--targets labels: the regions of ped are not nested"),
        ("men-rt", {"drop_contrasts": 0.3}, "--drop-contrasts: men-rt has not all four contrasts"),
    ],
)
def test_options_that_a_task_does_not_allow_are_refused(
    data: Path, tmp_path: Path, task: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        train(given, data, tmp_path, task=task)
