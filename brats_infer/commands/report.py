"""`brats-opt report`: predictions beside references, as a page."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from brats_infer.commands.options.case_files import channels
from brats_infer.commands.options.click_options import PATH, TARGET, debug, option
from brats_infer.commands.options.scoring import scoring, warn
from brats_infer.errors import ExitCode
from brats_infer.system.folders import prepare_folder
from brats_infer.system.signals import raise_once


@click.command()
@partial(scoring, required=True)
@option("--images", type=PATH, required=True, help="The cases, as infer takes them.")
@option("--out", type=TARGET, required=True, help="A folder for the page.")
@option("--before", type=PATH, help="The label maps before post-processing, to be scored beside them.")
@option(
    "--metrics",
    type=click.Choice(["2023", "2024"]),
    show_default="the challenge's own",
    help="The official scores of that year.",
)
@channels()
@debug
@click.pass_context
def report(ctx: click.Context, /, out: Path, task: str, predictions: Path, references: Path, **given: Any) -> None:
    """Show predictions beside references.

    A page with the scores, lesion by lesion, the worst first.

    Exit codes as evaluate.
    """
    from brats_infer.evaluate.challenge import task_for
    from brats_infer.evaluate.pairs import find_pairs
    from brats_infer.report import compare_folders

    raise_once()
    others = {
        "predictions": predictions,
        "references": references,
        "images": given["images"],
        "before": given["before"],
    }
    prepare_folder(out, "--out", {f"the folder of --{name}": folder for name, folder in others.items() if folder})
    chosen = task_for([pair.id for pair in find_pairs(predictions, references)], task)
    settings = {name: given[name] for name in ("before", "jobs", "channels", "metrics")}
    scores = compare_folders(predictions, references, given["images"], out, chosen, **settings)
    warn(scores.warnings, "the page shows those of each case")
    click.echo(out / "index.html")
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)
