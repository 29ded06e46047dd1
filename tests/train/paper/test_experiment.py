"""An experiment: rows side by side on the same cases, resumable, beside the paper's figures."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brats_infer.errors import UsageError
from brats_infer.evaluate import evaluate_folders
from brats_infer.files.labels import read_labels
from brats_infer.labelling.postprocess import clean
from brats_infer.phantom.write import write_cohort
from brats_infer.tasks import TASKS
from brats_infer.train.paper import experiment
from brats_infer.train.paper.experiment import names_of, run_experiment
from brats_infer.train.paper.paper_tables import Row
from brats_infer.train.recipes import read_recipe
from tests.small_networks import random_network, write_weights
from tests.test_cli import brats_opt

IDS = [f"BraTS-SSA-0400{i}-000" for i in range(3)]
QUICK: dict[str, Any] = {"patch": 8, "steps": 1, "folds": 3, "learning_rate": 0.1}
TABLE5 = ["scratch", "as-is", "freeze-encoder", "freeze-middle", "freeze-decoder", "freeze-none"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    assert list(write_cohort(folder, "ssa", 3, seed=4, shape=(20, 22, 18))) == IDS
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder, [random_network(seed=5)])  # it finds dust
    return folder


def run(table: str, data: Path, out: Path, weights: Path | None, **given: Any) -> list[Row]:
    return run_experiment(table, QUICK | given, task="ssa", data=data, out=out, init=weights, device="cpu")


@pytest.fixture(scope="module")
def finished(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("table5")
    run("table5", data, out, weights)
    return out


def test_rows_are_those_of_the_paper_in_its_order() -> None:
    assert names_of("table5") == [f"table5-{row}" for row in TABLE5]
    assert names_of("table4") == ["table4-off", "table4-on"]
    assert names_of("table1")[0] == "table1-none"


def test_table_holds_each_row_beside_the_papers_figures(finished: Path) -> None:
    header, *lines = csv.reader((finished / "table.csv").read_text().splitlines())
    assert header[:6] == ["row", "whose", "Dice ET", "Dice TC", "Dice WT", "Dice mean"]
    assert [line[1] for line in lines] == ["here", "here, voxel-wise", "paper"] * 6
    assert lines[14][:2] + lines[14][5:6] + lines[14][9:] == ["freeze decoder", "paper", "0.7199", "68.63"]
    assert lines[14][2:5] == ["", "", ""]
    assert all(0 <= float(cell) <= 1 for line in lines if line[1] != "paper" for cell in line[2:6])
    markdown = (finished / "table.md").read_text().splitlines()
    assert markdown[4].count("|") == 11
    assert len(markdown) == 4 + len(lines)
    assert (finished / "table.png").read_bytes().startswith(b"\x89PNG")


def test_scores_are_those_of_evaluate_on_the_same_held_out_cases(finished: Path, data: Path, tmp_path: Path) -> None:
    rows = {name: json.loads((finished / f"table5-{name}" / "row.json").read_text()) for name in TABLE5}
    assert len({tuple(row["identity"]["held_out"]) for row in rows.values()}) == 1
    (held_out,) = rows["scratch"]["identity"]["held_out"]
    (tmp_path / f"{held_out}-seg.nii.gz").write_bytes((data / held_out / f"{held_out}-seg.nii.gz").read_bytes())
    for name, row in rows.items():
        folder = finished / f"table5-{name}"
        scores = evaluate_folders(folder / "labels", tmp_path, TASKS["ssa"], jobs=1)
        for region, values in scores.mean.items():
            for key, kind in (("here", "lesionwise"), ("voxelwise", "legacy")):
                assert row[key]["dice"][region] == pytest.approx(values[f"{kind}_dice"], abs=1e-4)
                assert row[key]["hd95"][region] == pytest.approx(values[f"{kind}_hd95"], abs=1e-2)
        dice = row["here"]["dice"]
        assert dice["mean"] == pytest.approx(np.mean([dice[r] for r in ("ET", "TC", "WT")]), abs=1e-4)
        assert (folder / "run").exists() == (name != "as-is")


def test_rows_start_and_freeze_as_they_say(finished: Path) -> None:
    settings = {
        name: json.loads((finished / f"table5-{name}" / "run" / "settings.json").read_text())
        for name in TABLE5
        if name != "as-is"
    }
    assert not settings["scratch"]["initial_sha256"]
    for group in ("encoder", "middle", "decoder", "none"):
        assert settings[f"freeze-{group}"]["initial_sha256"]
        assert settings[f"freeze-{group}"]["freeze"] == group
    assert len({str(run["network"]) for run in settings.values()}) == 1


def test_finished_rows_are_not_run_again(
    finished: Path, data: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished / "table.csv").read_bytes()
    monkeypatch.setattr(experiment, "score_held_out", None)
    monkeypatch.setattr(experiment, "train", None)
    run("table5", data, finished, weights)
    assert (finished / "table.csv").read_bytes() == before


def test_finished_rows_of_other_options_are_not_mixed_in(finished: Path, data: Path, weights: Path) -> None:
    with pytest.raises(UsageError, match=r"table5-scratch/row.json: was run with other options"):
        run("table5", data, finished, weights, steps=2)


def test_stopped_experiment_goes_on_with_the_row_that_is_missing(
    finished: Path, data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = experiment.score_held_out, []

    def stop(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(experiment, "score_held_out", stop)
    with pytest.raises(KeyboardInterrupt):
        run("table5", data, tmp_path, weights)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + 2 * 3
    run("table5", data, tmp_path, weights)
    assert len(calls) == 3 + 4
    assert (tmp_path / "table.csv").read_bytes() == (finished / "table.csv").read_bytes()


def test_post_processing_is_what_tells_the_rows_of_table_4(data: Path, weights: Path, tmp_path: Path) -> None:
    done = brats_opt(
        *("experiment", "table4", "--task", "ssa", "--data", data, "--out", tmp_path, "--init", weights, "--folds", "3")
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "table.md").read_text()
    off, on = (read_labels(next((tmp_path / f"table4-{n}" / "labels").iterdir()))[0] for n in ("off", "on"))
    assert not np.array_equal(off, on)
    assert np.array_equal(clean(off, TASKS["ssa"]), on)


@pytest.mark.parametrize(
    ("table", "given", "words"),
    [
        (
            "table6",
            {},
            "experiment table6: is unknown: choose one of data, options, table1, table2, table3, table4, table5",
        ),
        ("table5", {"fold": "all"}, "all rows are scored on the same held-out cases"),
        ("table5", {"fold": 5}, "--fold 5: choose one from 0 to 2"),
        ("table1", {}, "experiment table1: none of its rows starts with trained weights: leave --init out"),
    ],
)
def test_experiment_that_cannot_work(
    data: Path, weights: Path, tmp_path: Path, table: str, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        run(table, data, tmp_path, weights, **given)


def test_table_of_transfer_needs_weights(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the row table5-as-is needs trained weights: give them with --init"):
        run("table5", data, tmp_path, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "options", "data"])
def test_every_recipe_of_the_other_tables_trains_two_epochs(data: Path, tmp_path: Path, table: str) -> None:
    given = {"channels": (3, 5), "patch": 8, "epochs": 2, "validate_every": 2, "folds": 3, "fold": 0}
    others = tmp_path / "phantoms"
    assert len(list(write_cohort(others, "ssa", 2, seed=5, shape=(20, 22, 18)))) == 2
    found = run_experiment(table, given, task="ssa", data=data, phantoms=others, out=tmp_path, init=None, device="cpu")
    names = names_of(table)
    assert [row.place.name for row in found] == [place.name for name in names if (place := read_recipe(name).row)]
    for name in names:
        settings = json.loads((tmp_path / name / "run" / "settings.json").read_text())
        assert settings["steps"] == 4  # two cases to train on, twice
        assert len((tmp_path / name / "run" / "log.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "table.md").exists()


def test_rows_of_phantoms_need_some_before_any_is_trained(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--phantom-share 1: of what: give --phantoms or --anatomy"):
        run("data", data, tmp_path, None, fold=0)
    assert not list(tmp_path.iterdir())


def test_a_damaged_result_is_named(data: Path, weights: Path, tmp_path: Path) -> None:
    result = tmp_path / "table4-off" / "row.json"
    for text in ("{", "[]", '{"identity": {}}'):
        result.parent.mkdir(exist_ok=True)
        result.write_text(text)
        with pytest.raises(UsageError, match=r"row\.json: cannot be read .* remove it"):
            run("table4", data, tmp_path, weights)


def test_weights_without_a_manifest_are_refused_before_a_row_is_trained(
    data: Path, weights: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "small.safetensors"
    bare.write_bytes(next(weights.glob("*.safetensors")).read_bytes())
    with pytest.raises(UsageError, match="no manifest beside it"):
        run("table5", data, tmp_path / "out", bare, channels=(3, 5, 6))
    assert not (tmp_path / "out" / "table5-scratch").exists()
