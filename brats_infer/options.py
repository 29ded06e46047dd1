"""How the commands take their options: default command, environment, K/N, values of enumerations."""

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from importlib import import_module
from typing import Any, TypeVar

import click

from brats_infer.shards import Shard

ENVIRONMENT = "BRATS_OPT"
Command = TypeVar("Command", bound=Callable[..., Any])


class DefaultGroup(click.Group):
    """Without a command, the first one given here is meant: `brats-opt --task ssa` infers.

    `elsewhere` are commands by the module that holds them, which is imported when they are asked for.
    """

    default = "infer"

    def __init__(self, *args: Any, elsewhere: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self.elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.elsewhere:
            found: click.Command = getattr(import_module(self.elsewhere[cmd_name]), cmd_name)
            return found
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version")):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class Part(click.ParamType[Shard]):
    """K/N, the K-th of N parts."""

    name = "K/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        if isinstance(value, Shard):
            return value
        try:
            k, n = (int(part) for part in str(value).split("/"))
        except ValueError:
            k, n = 0, 0
        if not 1 <= k <= n:
            self.fail(f"{value!r} is not K/N with 1 <= K <= N, such as 2/8", param, ctx)
        return Shard(k, n)


def option(*names: str, **settings: Any) -> Callable[[Command], Command]:
    """A click option that can also be given as BRATS_OPT_… in the environment, after its first name."""
    name = names[0].split("/")[0].lstrip("-").replace("-", "_").upper()
    return click.option(*names, envvar=f"{ENVIRONMENT}_{name}", show_envvar=True, **settings)


def _show_tracebacks(_ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        logging.getLogger("brats_infer").setLevel(logging.DEBUG)


debug = option("--debug", is_flag=True, expose_value=False, callback=_show_tracebacks, help="Show tracebacks.")


class ByValue(click.Choice[StrEnum]):
    """The values of an enumeration; click on its own would take their Python names."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        return str(choice)
