"""The options of commands that score predictions."""

import click

from brats_infer.commands.options.click_options import CHALLENGE, PATH, Command, option


def scoring(command: Command) -> Command:
    """Adds the options of a command that scores predictions."""
    for take in (
        option("--jobs", type=click.IntRange(1), show_default="one a core", help="Processes that work at a time."),
        option("--task", type=CHALLENGE, required=True, help="The challenge whose rules score."),
        option("--references", type=PATH, required=True, help="Label maps {ID}-seg.nii.gz, flat or in folders."),
        option("--predictions", type=PATH, required=True, help="Label maps {ID}.nii.gz, likewise."),
    ):
        command = take(command)
    return command
