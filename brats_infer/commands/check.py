"""`brats-opt check`: compares an output folder with the contract, or looks through a folder before a training."""

from pathlib import Path
from typing import Any

import click

from brats_infer.commands.options.case_files import channels, links
from brats_infer.commands.options.click_options import CHALLENGE_OR_AUTO, PATH, debug, option
from brats_infer.errors import ExitCode, UsageError, printable


@click.command()
@option("--input", "input_folder", type=PATH, help="The cases of a run.")
@option("--output", "output_folder", type=PATH, help="The label maps of that run.")
@option("--data", type=PATH, help="Instead: a folder of labelled cases, before a training. It needs --task.")
@option("--task", type=CHALLENGE_OR_AUTO, default="auto", show_default=True)
@links("--input")
@channels()
@debug
@click.pass_context
def check(
    ctx: click.Context, /, input_folder: Path | None, output_folder: Path | None, data: Path | None, **given: Any
) -> None:
    """Compare an output folder with the contract, or look through a folder of labelled cases.

    \b
    --input, --output: a line for each thing that breaks the contract; exit code 6 if any does.
    --data: cases, labels, grids, odd images; exit code 3 if a case cannot be trained on.
    """
    if data:
        _check_data(ctx, data, given["task"])
    if not (input_folder and output_folder):
        raise UsageError(f"--{'output' if input_folder else 'input'}: is missing: give --input and --output, or --data")
    from brats_infer.files.check import check_output

    findings = check_output(input_folder, output_folder, given["task"], given["links"], given["channels"])
    for finding in findings:
        click.echo(f"{'warning' if finding.warning else 'error'}: {printable(finding.message)}")
    faults = sum(not finding.warning for finding in findings)
    click.echo(f"{faults} errors, {len(findings) - faults} warnings")
    ctx.exit(ExitCode.OUTPUT if faults else ExitCode.OK)


def _check_data(ctx: click.Context, data: Path, task: str) -> None:
    """Prints what a training would find, and ends the command. Raises UsageError without a task."""
    if task == "auto":
        raise UsageError("--task: is auto: name the challenge to train for beside --data")
    from brats_infer.tasks import task_named
    from brats_infer.train.data.survey import survey

    found = survey(data, task_named(task))
    for line in found.lines():
        click.echo(printable(line))
    ctx.exit(ExitCode.CASES_FAILED if found.left_out else ExitCode.OK)
