"""What can be done with label maps: check them, score them, show them beside the references."""

from pathlib import Path
from typing import Any

import click

from brats_infer.errors import ExitCode, printable
from brats_infer.folders import prepare_folder
from brats_infer.options import CHALLENGE, CHALLENGE_OR_AUTO, PATH, TARGET, Command, debug, option
from brats_infer.signals import raise_once
from brats_infer.tasks import TASKS


def scoring(command: Command) -> Command:
    """The options of whatever scores predictions."""
    for take in (
        option("--jobs", type=click.IntRange(1), show_default="one a core", help="Processes that work at a time."),
        option("--task", type=CHALLENGE, required=True, help="The challenge whose rules score."),
        option("--references", type=PATH, required=True, help="Label maps {ID}-seg.nii.gz, flat or in folders."),
        option("--predictions", type=PATH, required=True, help="Label maps {ID}.nii.gz, likewise."),
    ):
        command = take(command)
    return command


@click.command()
@option("--input", "input_folder", type=PATH, required=True)
@option("--output", "output_folder", type=PATH, required=True)
@option("--task", type=CHALLENGE_OR_AUTO, default="auto", show_default=True)
@debug
@click.pass_context
def check(ctx: click.Context, input_folder: Path, output_folder: Path, task: str) -> None:
    """Compare an output folder with the contract.

    A line for each thing that breaks it; exit code 6 if any does.
    """
    from brats_infer.check import check_output

    findings = check_output(input_folder, output_folder, task)
    for finding in findings:
        click.echo(f"{'warning' if finding.warning else 'error'}: {printable(finding.message)}")
    faults = sum(not finding.warning for finding in findings)
    click.echo(f"{faults} errors, {len(findings) - faults} warnings")
    ctx.exit(ExitCode.OUTPUT if faults else ExitCode.OK)


@click.command()
@scoring
@option("--metrics", type=click.Choice(["2023", "2026"]), default="2023", show_default=True)
@option("--csv", "csv_file", type=PATH, help="A file for the table.")
@click.option(  # in the environment it is the flag of `infer`
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
    from brats_infer.evaluate.tables import print_table, write_csv, write_json

    raise_once()
    scores = evaluate_folders(predictions, references, TASKS[task], metrics, jobs)
    print_table(scores)  # first: a file that cannot be written may not cost the scores
    if files["csv_file"]:
        write_csv(scores, files["csv_file"])
    if files["json_file"]:
        write_json(scores, files["json_file"])
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)


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
