"""The options of training, one for each field of `TrainOptions`."""

from collections.abc import Collection
from enum import StrEnum
from types import UnionType
from typing import Any, get_args

import click

from brats_infer.commands.options.click_options import ByValue, Command, option
from brats_infer.train.options import TrainOptions, flag


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

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
    """One command-line option for each field of `TrainOptions`; what is not given is None or empty."""
    for name, field in reversed(TrainOptions.model_fields.items()):
        if name in left_out:
            continue
        kind = field.annotation
        if isinstance(kind, UnionType) and type(None) in get_args(kind):
            kind = get_args(kind)[0]
        spelling, settings = flag(name), dict[str, Any](type=kind)
        if kind is bool:
            spelling, settings = f"{flag(name)}/--no-{flag(name)[2:]}", {}
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            settings = {"type": ByValue(kind)}
        elif name == "channels":
            settings = {"type": Numbers()}
        elif name == "fold":
            settings = {"type": NumberOrAll()}
        elif field.default == ():
            settings = {"type": str, "multiple": True, "metavar": "ID"}
        shown = ",".join(str(n) for n in field.default) if isinstance(field.default, tuple) else str(field.default)
        shown = "" if field.default in (None, ()) else f"[default: {shown}]"
        text = " ".join(part for part in (field.description, shown) if part)
        command = option(spelling, default=None, help=text, **settings)(command)
    return command


def split_options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what was given of `TrainOptions`, the other options)"""
    others = {name: value for name, value in given.items() if name not in TrainOptions.model_fields}
    training = {name: value for name, value in given.items() if name not in others and value not in (None, ())}
    return training, others
