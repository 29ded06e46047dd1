"""`brats-opt restore`: label maps of prepared cases -> label maps on the patient's own scans."""

from pathlib import Path
from typing import Any

import click

from brats_infer.commands.options.click_options import CHALLENGE_OR_AUTO, PATH, TARGET, debug, option
from brats_infer.errors import ExitCode
from brats_infer.system.console import Screen, say
from brats_infer.system.signals import raise_once


@click.command()
@option("--labels", type=PATH, required=True, help="The label maps of the prepared cases.")
@option("--prepared", type=PATH, required=True, help="The folder that prepare wrote.")
@option("--out", type=TARGET, required=True, help="A folder for the maps on the scans.")
@option("--task", type=CHALLENGE_OR_AUTO, default="auto", show_default=True)
@option("--probabilities", type=PATH, help="The probabilities of the same run, for smooth borders.")
@option("--dicom-seg", "studies", type=PATH, help="The studies: also write a DICOM Segmentation over each series.")
@debug
@click.pass_context
def restore(
    ctx: click.Context,
    /,
    labels: Path,
    prepared: Path,
    out: Path,
    **given: Any,
) -> None:
    """Put label maps of prepared cases on each of the patient's own scans.

    Writes OUT/ID/ID-on-t1c.nii.gz and so on.
    """
    raise_once()
    from brats_infer.preparation.restore import restore as restore_maps

    screen = Screen()
    outcomes = restore_maps(labels, prepared, out, tell=lambda line: say(screen, line), **given)
    ctx.exit(ExitCode.CASES_FAILED if any(outcome.problem for outcome in outcomes) else ExitCode.OK)
