"""The fields of `TrainOptions` are all that is known of an option of training."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from brats_infer.commands.options.training import training_options
from brats_infer.errors import UsageError
from brats_infer.train.checkpoint import SETTINGS, same_run
from brats_infer.train.choices import TrainOptions, flag, recorded_elsewhere
from brats_infer.train.recipes import parse_recipe
from brats_infer.train.run_config import TrainConfig
from tests.train.small_runs import CONFIG, run

FIELDS = list(TrainOptions.model_fields)
DEFAULTS = TrainConfig(TrainOptions()).to_json()


def test_every_field_is_an_option_of_the_command_line_in_that_order() -> None:
    command = click.command()(training_options(lambda **_: None))
    assert [param.name for param in command.params] == FIELDS
    assert [param.opts[0] for param in command.params] == [flag(name) for name in FIELDS]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_a_key_of_recipes(name: str) -> None:
    value = json.loads(TrainOptions().model_dump_json())[name]
    assert parse_recipe("mine", json.dumps({"options": {name: value}})).options == {name: value}
    with pytest.raises(UsageError, match=f"recipe mine: {flag(name)}: Input should be"):
        parse_recipe("mine", json.dumps({"options": {name: {}}}))


def test_every_field_stands_in_the_settings_of_a_run(tmp_path: Path) -> None:
    run(tmp_path, CONFIG.with_options(steps=1))
    settings = json.loads((tmp_path / SETTINGS).read_text())
    assert set(FIELDS) < set(settings)
    assert (settings["steps"], settings["patch"], settings["channels"]) == (1, [8, 8, 8], [3, 5])


@pytest.mark.parametrize("name", FIELDS)
def test_a_run_goes_on_with_the_same_options_alone(name: str) -> None:
    changed = {**DEFAULTS, name: "another"}
    assert same_run(DEFAULTS, changed) == recorded_elsewhere(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"folds": 3, "fold": 1}, {"hold_out": ("BraTS-GLI-00002-000",)}),
        ({"epochs": 2, "steps": 8}, {"steps": 8}),
    ],
)
def test_ways_to_the_same_run_are_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert same_run(*(CONFIG.with_options(**options).to_json() for options in (one, other)))


def test_a_run_that_began_before_an_option_existed_has_its_default() -> None:
    stored = {name: value for name, value in DEFAULTS.items() if name != "ema"}
    assert same_run(stored, DEFAULTS)
    assert not same_run(stored, {**DEFAULTS, "ema": 0.5})
