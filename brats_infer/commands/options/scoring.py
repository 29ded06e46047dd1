"""The options of commands that score predictions, and their warnings."""

from collections.abc import Iterable
from functools import partial

import click

from brats_infer.commands.options.click_options import CHALLENGE_OR_AUTO, PATH, Command, option
from brats_infer.errors import printable
from brats_infer.system.console import Screen, say

MOST_WARNINGS = 20  # lines on the terminal


def scoring(command: Command, required: bool) -> Command:
    """Adds the options of a command that scores predictions. The folders may be `required`."""
    folder = partial(option, type=PATH, required=required)
    for take in (
        option("--jobs", type=click.IntRange(1), show_default="one a core", help="Processes that work at a time."),
        option(
            "--task",
            type=CHALLENGE_OR_AUTO,
            default="auto",
            show_default=True,
            help="The challenge whose rules score; auto: the one that the case IDs name.",
        ),
        folder("--references", help="Label maps {ID}-seg.nii.gz, or else {ID}.nii.gz, flat or in folders."),
        folder("--predictions", help="Label maps {ID}.nii.gz, flat or in folders."),
    ):
        command = take(command)
    return command


def warn(warnings: Iterable[str], rest: str) -> None:
    """Prints warnings to stderr, the first ones of many. `rest` says where all of them stand."""
    lines = list(dict.fromkeys(warnings))
    screen = Screen()
    for line in lines[:MOST_WARNINGS]:
        say(screen, printable(f"warning: {line}"))
    if len(lines) > MOST_WARNINGS:
        say(screen, f"warning: {len(lines) - MOST_WARNINGS} more warnings: {rest}")
