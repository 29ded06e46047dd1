"""`brats-opt tune`: searches with Optuna."""

import json
from functools import partial
from typing import Any

import click

from brats_infer.commands.options.click_options import CHALLENGE, PATH, debug, option
from brats_infer.commands.options.training import split_options, training_options
from brats_infer.system.signals import raise_once
from brats_infer.tasks import TASKS


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
    from brats_infer.train.tune.post_processing import tune_thresholds

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
    from brats_infer.train.tune.loss_weights import tune_losses

    raise_once()
    training, others = split_options(given)
    click.echo(json.dumps(tune_losses(training, terms=terms.split(","), **others), indent=2))
