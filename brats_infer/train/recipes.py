"""Recipes: one YAML file for each row of the paper's tables and of our own; unknown keys are errors."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brats_infer.errors import UsageError
from brats_infer.train.choices import merged_options


class Place(BaseModel):
    """The row of a table that a recipe is."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    table: str
    """table1 to table5 are the paper's, the others are ours."""
    number: int
    """The number of the row, from 1."""
    name: str
    """The name of the row in the table."""


class Figures(BaseModel):
    """The figures of a row."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dice: dict[str, float]
    """{region or "mean": mean over the held-out cases}"""
    hd95: dict[str, float] = Field(default_factory=dict)
    """Likewise, in mm; empty if the paper gives none."""


class Recipe(BaseModel):
    """The training and scoring of a row of a table."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    base: str | None = None
    """A recipe whose options hold unless this one sets them."""
    row: Place | None = None
    """None for a recipe that only serves as a base."""
    paper: Figures | None = None
    """The figures that the paper prints."""
    task: str | None = None
    trains: bool = True
    """Whether a network is trained. Otherwise the network of --init is scored as it is."""
    init: bool = False
    """Whether the row starts with the weights given with --init."""
    postprocess: bool = True
    """Whether dust is removed before scoring."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Fields of `TrainOptions`."""


def recipe_names() -> list[str]:
    """The names of all recipes, ascending."""
    return sorted(path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml"))


def read_recipe(name: str) -> Recipe:
    """A recipe with the options of its bases. Raises UsageError for an unknown recipe or unknown keys."""
    if name not in recipe_names():
        raise UsageError(f"--recipe {name}: is unknown: choose one of {', '.join(recipe_names())}")
    return parse_recipe(name, (_folder() / f"{name}.yaml").read_text(encoding="utf-8"))


def parse_recipe(name: str, text: str) -> Recipe:
    """As `read_recipe`, from the text of the file."""
    try:
        recipe = Recipe.model_validate(yaml.safe_load(text))
        base = read_recipe(recipe.base).options if recipe.base else {}
        merged_options(recipe.options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"recipe {name}: {key}: {first['msg']}") from error
    except UsageError as error:
        raise UsageError(f"recipe {name}: {error}") from error
    return recipe.model_copy(update={"options": {**base, **recipe.options}})


def _folder() -> Traversable:
    return files(__package__) / "recipes"
