"""Recipes: each a row of the paper's tables, read strictly; and how options from several places are merged."""

from collections import Counter
from typing import Any

import pytest

from brats_infer.errors import UsageError
from brats_infer.train.choices import (
    Augment,
    Freeze,
    Optimizer,
    Schedule,
    Selection,
    Targets,
    TrainOptions,
    merged_options,
)
from brats_infer.train.recipes import parse_recipe, read_recipe, recipe_names
from brats_infer.train.step.losses import loss_weights

ROWS = [name for name in recipe_names() if read_recipe(name).row]


def test_every_row_of_the_papers_five_tables_and_of_ours_has_a_recipe() -> None:
    assert Counter(name.split("-")[0] for name in ROWS) == {
        "table1": 4,
        "table2": 3,
        "table3": 2,
        "table4": 2,
        "table5": 6,
        "options": 12,
        "data": 3,
    }


@pytest.mark.parametrize("name", ROWS)
def test_recipe_is_a_row_of_the_table_in_its_name_and_can_be_run(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.row
    assert name.startswith(f"{recipe.row.table}-")
    assert recipe.task in ("gli", "ssa", "men")
    loss_weights(merged_options(recipe.options).loss)


OPTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "no-augmentation": {"augment": Augment.NONE},
    "flips-only": {"augment": Augment.FLIPS},
    "shape-only": {"augment": Augment.SHAPE},
    "contrast-only": {"augment": Augment.CONTRAST},
    "one-head": {"deep_supervision": False},
    "no-foreground": {"foreground": False},
    "no-ema": {"ema": 0.0},
    "dropout": {"dropout": 0.1},
    "adamw": {"optimizer": Optimizer.ADAMW, "weight_decay": 0.01},
    "sgd": {"optimizer": Optimizer.SGD, "schedule": Schedule.POLY, "learning_rate": 0.01, "weight_decay": 3e-5},
    "paper": {"learning_rate": 6e-5, "schedule": Schedule.EXPONENTIAL, "amsgrad": True, "warm_up": 0},
}


def test_rows_of_the_options_change_what_they_say() -> None:
    usual = merged_options(read_recipe("small").options)
    for name in (name for name in ROWS if name.startswith("options-")):
        changed = merged_options(read_recipe(name).options)
        found = {field: getattr(changed, field) for field in TrainOptions.model_fields}
        differing = {field: value for field, value in found.items() if value != getattr(usual, field)}
        assert differing == OPTIONS[name.removeprefix("options-")], name


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("table")])
def test_recipe_of_the_paper_trains_as_it_says(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.row
    assert recipe.paper
    assert set(recipe.paper.dice) in ({"mean"}, {"ET", "TC", "WT"})
    assert recipe.init == (recipe.row.table in ("table4", "table5") and name != "table5-scratch")
    options = merged_options(recipe.options)
    assert (options.learning_rate, options.schedule, options.decay) == (6e-5, Schedule.EXPONENTIAL, 0.995)
    assert (options.optimizer, options.amsgrad, options.weight_decay) == (Optimizer.ADAM, True, 0)
    assert (options.folds, options.fold, options.select) == (10, 0, Selection.DICE_HD95)


def test_final_model_of_the_paper() -> None:
    recipe = read_recipe("table5-freeze-decoder")
    assert recipe.options["freeze"] == Freeze.DECODER
    assert recipe.options["channels"] == [64, 96, 128, 192, 256, 384, 512]
    assert recipe.paper
    assert (recipe.paper.dice, recipe.paper.hd95) == ({"mean": 0.7199}, {"mean": 68.63})


@pytest.mark.parametrize("name", ["table9-none", "", "../paper", "paper.yaml"])
def test_unknown_recipe_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--recipe {name}: is unknown: choose one of data-both, data-phantoms"):
        read_recipe(name)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("rows: 3", "rows: Extra inputs"),
        ("options: {learningrate: 1}", "--learningrate: Extra inputs"),
        ("options: {learning_rate: fast}", "--learning-rate: Input should be a valid number"),
        ("options: {steps: 0}", "--steps: Input should be greater"),
        ("options: {steps: 1, epochs: 1}", "--steps and --epochs exclude each other"),
        ("options: {freeze: all}", "--freeze: Input should be"),
        ("base: nothing", "--recipe nothing: is unknown"),
        ("row: {table: table5}", "row.number: Field required"),
        ("trains: maybe", "trains: Input should be a valid boolean"),
        ("just text", "the file: Input should be"),
    ],
)
def test_recipe_with_what_is_unknown_or_wrong_is_refused_by_key(text: str, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe("mine", text)
    assert str(caught.value).startswith(f"recipe mine: {word}")


def test_later_options_win_and_defaults_fill_up() -> None:
    options = merged_options({"patch": 64, "seed": 3}, {}, {"seed": 4, "targets": Targets.LABELS, "channels": (2, 3)})
    assert options == TrainOptions(patch=64, seed=4, targets=Targets.LABELS, channels=(2, 3))


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ({"epochs": 9}, {"steps": 5}, {"steps": 5}),
        ({"steps": 5}, {"epochs": 9}, {"epochs": 9}),
        ({"folds": 10, "fold": 0}, {"hold_out": ["A"]}, {"hold_out": ("A",)}),
        ({"hold_out": ["A"]}, {"folds": 3}, {"folds": 3}),
    ],
)
def test_of_two_alternatives_the_later_one_counts(
    earlier: dict[str, Any], later: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert merged_options(earlier, later) == TrainOptions(**expected)
