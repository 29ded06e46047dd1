"""The options that say which files of an input folder are the cases."""

from collections.abc import Callable
from typing import Any

import click

from brats_infer.commands.options.click_options import OTHER, PATH, ByValue, Command, option
from brats_infer.files.search.names import contrast_named
from brats_infer.files.search.tree import Links
from brats_infer.tasks import MODALITIES


class Channels(click.ParamType[tuple[str, ...]]):
    """The four contrasts in the order of a data set's channels."""

    name = "t1n,t1c,t2w,t2f"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(contrast_named(word) or "" for word in str(value).split(","))
        if sorted(found) != sorted(modality.name for modality in MODALITIES):
            self.fail(f"{value!r} does not name the four contrasts once each, as {self.name} does", param, ctx)
        return found


def links(folder: str, heading: str = OTHER) -> Callable[[Command], Command]:
    """The option `--links`, for links in the folder of that option."""
    text = f"Follow links in {folder}, or only links to files inside it."
    default = Links.FOLLOW.value
    return option("--links", type=ByValue(Links), default=default, show_default=True, heading=heading, help=text)


def channels(heading: str = OTHER) -> Callable[[Command], Command]:
    """The option `--channels`."""
    text = "The contrasts of nnU-Net's numbered files, or of the volumes of 4-D images, in order."
    return option("--channels", type=Channels(), default=(), heading=heading, help=text)


def four_files(heading: str) -> Callable[[Command], Command]:
    """An option for the file of each contrast."""

    def add(command: Command) -> Command:
        for modality in reversed(MODALITIES):
            text = f"One case from four files: its {modality.title}; --output is then a file {{ID}}.nii.gz."
            command = option(f"--{modality.name}", type=PATH, heading=heading, help=text)(command)
        return command

    return add
