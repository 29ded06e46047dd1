"""The options of training on the command line, one for each field of `TrainOptions`."""

from collections.abc import Collection
from enum import StrEnum
from types import NoneType
from typing import Any, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from brats_infer.commands.options.click_options import ByValue, Command, option
from brats_infer.train.choices import TrainOptions, flag


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, separated by commas."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not like 16,32,64", param, ctx)


class NumberOrAll(click.ParamType[int | str]):
    """A whole number, or all."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value != "all" and not str(value).isdecimal():
            self.fail(f"{value!r} is neither a number nor all", param, ctx)
        return "all" if value == "all" else int(value)


def training_options(command: Command, left_out: Collection[str] = ()) -> Command:
    """Adds an option for each field of `TrainOptions`; an option that is not given is None or empty."""
    for name, field in reversed(TrainOptions.model_fields.items()):
        if name not in left_out:
            spelling = f"{flag(name)}/--no-{flag(name)[2:]}" if field.annotation is bool else flag(name)
            command = option(spelling, default=None, help=_help(field), **_type(field.annotation))(command)
    return command


def _type(annotation: Any) -> dict[str, Any]:
    """What click needs to read values of a field's type; ranges are checked by `TrainOptions`."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    if annotation is bool:
        return {}
    if get_origin(annotation) is tuple:
        return {"type": Numbers()} if int in kinds else {"type": str, "multiple": True, "metavar": "ID"}
    if len(kinds) > 1:  # a number or a word
        return {"type": NumberOrAll()}
    kind = kinds[0] if kinds else annotation
    return {"type": ByValue(kind) if issubclass(kind, StrEnum) else kind}


def _help(field: FieldInfo) -> str:
    """The field's description and default."""
    default = field.default
    shown = ",".join(str(n) for n in default) if isinstance(default, tuple) else str(default)
    shown = "" if default in (None, ()) else f"[default: {shown}]"
    return " ".join(part for part in (field.description, shown) if part)


def split_options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(given options of `TrainOptions`, other options)"""
    others = {name: value for name, value in given.items() if name not in TrainOptions.model_fields}
    training = {name: value for name, value in given.items() if name not in others and value not in (None, ())}
    return training, others
