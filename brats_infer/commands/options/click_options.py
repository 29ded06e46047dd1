"""Extensions of click: a default command, variables, and types for paths, K/N and enumerations."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from brats_infer.system.shards import Shard
from brats_infer.tasks import TASKS

ENVIRONMENT = "BRATS_OPT"
OTHER = "Other"
CHALLENGE = click.Choice(list(TASKS))
CHALLENGE_OR_AUTO = click.Choice([*TASKS, "auto"])
SHIPPED = "the shipped folder"
Command = TypeVar("Command", bound=Callable[..., Any])


class DefaultGroup(click.Group):
    """A group with a default command: `brats-opt --task ssa` infers.

    `modules` is {command: its module}. A module is imported when its command is needed.
    """

    default = "infer"

    def __init__(self, *args: Any, modules: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        module = self.modules[cmd_name]
        found: click.Command = getattr(import_module(module), module.rpartition(".")[2])
        return found

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes commands, and the options of the default command."""
        found = super().shell_complete(ctx, incomplete)
        default = self.get_command(ctx, self.default)
        if default:
            own = default.make_context(self.default, [], parent=ctx, resilient_parsing=True)
            found += [item for item in default.shell_complete(own, incomplete) if item.value != "--help"]
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:  # a shell asks for completions
            return super().parse_args(ctx, args)
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version")):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class PathOption(click.Path):
    """A path. An empty text, as from an unset variable, is refused: it would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("is empty: name a file or folder", param, ctx)
        return Path(str(super().convert(value, param, ctx)))


PATH = PathOption()
TARGET = PathOption(readable=False)  # not checked by click: the command has exit codes for it


class Part(click.ParamType[Shard | None]):
    """K/N, the K-th of N parts, or auto, from the environment."""

    name = "K/N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard | None:
        """The shard, or None for auto. Any other value is a usage error."""
        if isinstance(value, Shard):
            return value
        if value == "auto":
            return None
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", str(value), re.ASCII)
        k, n = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= k <= n:
            self.fail(f"{value!r} is neither auto nor K/N with 1 <= K <= N, such as 2/8", param, ctx)
        return Shard(k, n)


class _Option(click.Option):
    """An option with a heading in the help."""

    def __init__(self, *args: Any, heading: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading


class WithHeadings(click.Command):
    """A command whose help lists the options under headings, in order of their first options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        under: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                under.setdefault(getattr(param, "heading", OTHER), []).append(record)
        for heading in sorted(under, key=OTHER.__eq__):
            with formatter.section(heading):
                formatter.write_dl(under[heading])


def option(*names: str, heading: str = OTHER, **settings: Any) -> Callable[[Command], Command]:
    """A click option with a variable BRATS_OPT_…, named after the option's first name."""
    name = names[0].split("/")[0].lstrip("-").replace("-", "_").upper()
    return click.option(*names, envvar=f"{ENVIRONMENT}_{name}", cls=_Option, heading=heading, **settings)


def _show_tracebacks(_ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        logging.getLogger("brats_infer").setLevel(logging.DEBUG)


debug = option("--debug", is_flag=True, expose_value=False, callback=_show_tracebacks, help="Show tracebacks.")


class Probability(click.FloatRange):
    """From 0 to 1; click's own range lets nan pass."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found: float = super().convert(value, param, ctx)
        return self.fail(f"{value} is no number", param, ctx) if math.isnan(found) else found


class ByValue(click.Choice[StrEnum]):
    """The values of an enumeration; click alone would take the Python names."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        return str(choice)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """None for a flag that the environment turns off, as in BRATS_OPT_QUIET=0."""
        return None if value is False else super().convert(value, param, ctx)
