"""`brats-opt train`: a network from a folder of labelled cases."""

import json
from typing import Any

import click

from brats_infer.commands.options.click_options import CHALLENGE, PATH, debug, option
from brats_infer.commands.options.training import split_options, training_options
from brats_infer.system.signals import raise_once


@click.command()
@option("--task", type=CHALLENGE, help="The challenge; may be left to the recipe.")
@option("--data", type=PATH, required=True, help="A folder with images and {ID}-seg.nii.gz, anywhere below it.")
@option("--out", type=PATH, required=True, help="The run's folder; an interrupted run goes on from there.")
@option("--recipe", metavar="NAME", help="A row of the paper's tables (table5-freeze-decoder), or transfer-TASK.")
@option("--init", type=PATH, help="Start with these weights: a run's folder, a weights folder, or a .safetensors file.")
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
    from brats_infer.train.distributed import is_first
    from brats_infer.train.run import run

    raise_once()
    training, others = split_options(given)
    result = run(training, **others)
    if is_first():
        click.echo(json.dumps(result, indent=2))
