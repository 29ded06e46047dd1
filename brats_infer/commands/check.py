"""`brats-opt check`: compares an output folder with the contract."""

from pathlib import Path

import click

from brats_infer.commands.options.click_options import CHALLENGE_OR_AUTO, PATH, debug, option
from brats_infer.errors import ExitCode, printable


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
    from brats_infer.files.check import check_output

    findings = check_output(input_folder, output_folder, task)
    for finding in findings:
        click.echo(f"{'warning' if finding.warning else 'error'}: {printable(finding.message)}")
    faults = sum(not finding.warning for finding in findings)
    click.echo(f"{faults} errors, {len(findings) - faults} warnings")
    ctx.exit(ExitCode.OUTPUT if faults else ExitCode.OK)
