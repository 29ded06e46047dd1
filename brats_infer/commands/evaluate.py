"""`brats-opt evaluate`: official scores of label maps."""

from pathlib import Path

import click

from brats_infer.commands.options.click_options import PATH, debug, option
from brats_infer.commands.options.scoring import scoring
from brats_infer.errors import ExitCode
from brats_infer.system.signals import raise_once
from brats_infer.tasks import TASKS


@click.command()
@scoring
@option("--metrics", type=click.Choice(["2023", "2026"]), default="2023", show_default=True)
@option("--csv", "csv_file", type=PATH, help="A file for the table.")
@click.option(  # without a variable: BRATS_OPT_JSON is the flag of `infer`
    "--json", "json_file", type=PATH, help="A file for the table and the means."
)
@debug
@click.pass_context
def evaluate(
    ctx: click.Context, /, predictions: Path, references: Path, task: str, metrics: str, jobs: int | None, **files: Path
) -> None:
    """Score label maps as the challenges do.

    Exit code 2 for a prediction without a reference; 3 if predictions are missing, which get the worst scores, or a
    file cannot be read, without which no table is written; 4 where a folder holds no map.
    """
    from brats_infer.evaluate import evaluate_folders
    from brats_infer.evaluate.score_files import print_table, write_csv, write_json

    raise_once()
    scores = evaluate_folders(predictions, references, TASKS[task], metrics, jobs)
    print_table(scores)  # first: a file that cannot be written must not cost the scores
    if files["csv_file"]:
        write_csv(scores, files["csv_file"])
    if files["json_file"]:
        write_json(scores, files["json_file"])
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)
