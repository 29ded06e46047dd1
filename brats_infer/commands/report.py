"""`brats-opt report`: predictions beside references, as a page."""

from pathlib import Path
from typing import Any

import click

from brats_infer.commands.options.click_options import PATH, TARGET, debug, option
from brats_infer.commands.options.scoring import scoring
from brats_infer.errors import ExitCode
from brats_infer.files.folders import prepare_folder
from brats_infer.system.signals import raise_once
from brats_infer.tasks import TASKS


@click.command()
@scoring
@option("--images", type=PATH, required=True, help="The cases, as infer takes them.")
@option("--out", type=TARGET, required=True, help="A folder for the page.")
@option("--before", type=PATH, help="The label maps before post-processing, to be scored beside them.")
@debug
@click.pass_context
def report(ctx: click.Context, /, out: Path, task: str, predictions: Path, references: Path, **given: Any) -> None:
    """Show predictions beside references.

    A page with the scores, lesion by lesion, the worst first.

    Exit codes as evaluate.
    """
    from brats_infer.report import compare_folders

    raise_once()
    others = {
        "predictions": predictions,
        "references": references,
        "images": given["images"],
        "before": given["before"],
    }
    prepare_folder(out, "--out", {f"the folder of --{name}": folder for name, folder in others.items() if folder})
    scores = compare_folders(predictions, references, given["images"], out, TASKS[task], given["before"], given["jobs"])
    click.echo(out / "index.html")
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)
