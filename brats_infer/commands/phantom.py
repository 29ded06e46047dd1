"""`brats-opt phantom`: synthetic cases with labels."""

from pathlib import Path

import click

from brats_infer.commands.options.click_options import CHALLENGE, PATH, debug, option
from brats_infer.system.signals import raise_once


@click.command()
@option("--task", type=CHALLENGE, required=True)
@option("--cases", "count", type=click.IntRange(1), required=True, help="How many.")
@option("--out", type=PATH, required=True)
@option("--seed", type=click.IntRange(0, 99), default=0, show_default=True)
@option("--anatomy", default="mni152", show_default=True, help="mni152, ellipsoid, or a folder of label maps.")
@debug
def phantom(task: str, count: int, out: Path, seed: int, anatomy: str) -> None:
    """Write synthetic cases with labels, in the layout of 2023, to train on and to try things on."""
    from brats_infer.phantom.write import write_cohort

    raise_once()
    for case_id in write_cohort(out, task, count, seed, anatomy):
        click.echo(out / case_id)
