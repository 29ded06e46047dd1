"""`brats-opt experiment`: trains the rows of a table."""

from typing import Any

import click

from brats_infer.commands.options.click_options import CHALLENGE, PATH, debug, option
from brats_infer.commands.options.training import split_options, training_options
from brats_infer.system.signals import raise_once


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
    from brats_infer.train.paper.experiment import run_experiment

    raise_once()
    training, others = split_options(given)
    run_experiment(table, training, **others)
    click.echo((others["out"] / "table.md").read_text(encoding="utf-8"), nl=False)
