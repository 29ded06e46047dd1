"""The commands of training, with the options of `TrainOptions`; no logic."""

import json
from collections.abc import Collection
from enum import StrEnum
from functools import partial
from types import UnionType
from typing import Any, get_args

import click

from brats_infer.options import CHALLENGE, PATH, ByValue, Command, debug, option
from brats_infer.signals import raise_once
from brats_infer.tasks import TASKS
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


@click.command()
@option("--task", type=CHALLENGE, help="The challenge; may be left to the recipe.")
@option("--data", type=PATH, required=True, help="A folder with images and {ID}-seg.nii.gz, anywhere below it.")
@option("--out", type=PATH, required=True, help="The run's folder; an interrupted run goes on from there.")
@option("--recipe", metavar="NAME", help="Options of a row of the paper's tables, such as table5-freeze-decoder.")
@option("--init", type=PATH, help="Start with these weights: a .safetensors file, or a folder with a manifest.json.")
@option("--phantoms", type=PATH, help="A folder of synthetic cases to train on as well.")
@option("--cache", type=PATH, show_default="OUT/cache", help="Where preprocessed cases are kept, for any run.")
@training_options
@option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@option("--publish", "publish_to", type=PATH, help="Add the best checkpoint to this weights folder and its manifest.")
@option("--trained-on", default="", help="With --publish: data and credits, for the manifest.")
@option("--licence", default="", help="With --publish: the licence of the weights.")
@debug
def train(**given: Any) -> None:
    """Train a network on a folder of labelled cases.

    Options given here win over those of --recipe, and with --init the network is that of the weights; defaults are for
    what none of them says.
    """
    from brats_infer.train.command import run
    from brats_infer.train.distributed import is_first

    raise_once()
    training, others = split_options(given)
    result = run(training, **others)
    if is_first():
        click.echo(json.dumps(result, indent=2))


@click.command()
@click.argument("table")
@option("--task", type=CHALLENGE, help="The challenge, if not the table's.")
@option("--data", type=PATH, required=True, help="A folder with images and {ID}-seg.nii.gz, anywhere below it.")
@option("--out", type=PATH, required=True, help="A folder for the rows and the table; finished rows stay.")
@option("--init", type=PATH, help="The trained weights of tables 4 and 5, with their manifest.json.")
@option("--phantoms", type=PATH, help="A folder of synthetic cases to train on as well.")
@option("--cache", type=PATH, show_default="OUT/cache", help="Where preprocessed cases are kept, for any run.")
@training_options
@option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@debug
def experiment(table: str, **given: Any) -> None:
    """Run the rows of a table on your data: the paper's table1 to table5, beside its figures, or ours, options or data.

    Options of training win over those of every row's recipe; defaults are for what neither says.
    """
    from brats_infer.train.experiment import run_experiment

    raise_once()
    training, others = split_options(given)
    run_experiment(table, training, **others)
    click.echo((others["out"] / "table.md").read_text(encoding="utf-8"), nl=False)


@click.group()
def tune() -> None:
    """Search settings with Optuna; a search that was stopped goes on when it is started again."""


@tune.command()
@option("--task", type=CHALLENGE, required=True)
@option("--probabilities", type=PATH, required=True, help="What brats-opt --probabilities wrote.")
@option("--references", type=PATH, required=True, help="Label maps {ID}-seg.nii.gz, flat or in folders.")
@option("--out", type=PATH, required=True, help="A folder for the study, study.db.")
@option("--trials", type=click.IntRange(1), default=200, show_default=True, help="How many in all.")
@option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@debug
def thresholds(task: str, **given: Any) -> None:
    """Each region's threshold, --dust and --component-probability, for the best lesion-wise Dice."""
    from brats_infer.train.tune_thresholds import tune_thresholds

    raise_once()
    click.echo(json.dumps(tune_thresholds(TASKS[task], **given), indent=2))


@tune.command()
@option("--task", type=CHALLENGE, required=True)
@option("--data", type=PATH, required=True, help="A folder with images and {ID}-seg.nii.gz, anywhere below it.")
@option("--out", type=PATH, required=True, help="A folder for the study, study.db, and the run of each trial.")
@option(
    "--terms",
    default="mse,ce,edge",
    show_default=True,
    help="Of the loss, to weigh; the first stays at 1.",
)
@option("--trials", type=click.IntRange(1), default=30, show_default=True, help="How many in all.")
@partial(training_options, left_out=("loss", "freeze"))
@option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@debug
def losses(terms: str, **given: Any) -> None:
    """The weights of a loss's terms, by one training a trial."""
    from brats_infer.train.tune_losses import tune_losses

    raise_once()
    training, others = split_options(given)
    click.echo(json.dumps(tune_losses(training, terms=terms.split(","), **others), indent=2))
