"""`brats-opt prepare`: a scanner's studies -> cases."""

import re
from pathlib import Path
from typing import Any

import click

from brats_infer.commands.options.click_options import PATH, TARGET, ByValue, debug, option
from brats_infer.errors import ExitCode
from brats_infer.settings import Atlas, Missing, PrepareOptions
from brats_infer.system.console import Screen, say
from brats_infer.system.signals import raise_once
from brats_infer.tasks import MODALITIES


class OneSeries(click.ParamType[tuple[str, str]]):
    """A contrast and the number of its series, or the name of its file."""

    name = "CONTRAST=SERIES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(rf"({'|'.join(modality.name for modality in MODALITIES)})=(.+)", str(value))
        if not found:
            self.fail(f"{value!r} is not such as t1c=7 or t1c=post.nii.gz", param, ctx)
        return found[1], found[2]


@click.command()
@option("--input", "studies", type=PATH, default=Path("/input"), show_default=True, help="A folder a study.")
@option("--out", type=TARGET, required=True, help="A folder for the cases.")
@option("--atlas", type=ByValue(Atlas), default=Atlas.SRI24.value, show_default=True, help="The space of the cases.")
@option("--series", type=OneSeries(), multiple=True, help="Which series or file is a contrast, in all studies.")
@option("--brain", metavar="NAME", help="A file in each study: the brain's mask on the T1c, else on the T1 or FLAIR.")
@option("--missing", type=ByValue(Missing), default=Missing.FAIL.value, show_default=True, help="As for infer.")
@option("--resume", is_flag=True, help="Leave alone cases that are there.")
@debug
@click.pass_context
def prepare(ctx: click.Context, /, studies: Path, out: Path, series: tuple[tuple[str, str], ...], **given: Any) -> None:
    """Make cases of raw scans: register them, resample them once, strip the skull.

    A study is a folder with DICOM series or NIfTI files of a patient. Each case gets its images, transforms, a picture
    and prepare.json; index.html shows all of them.
    """
    raise_once()
    from brats_infer.preparation.prepare import prepare as prepare_studies

    screen = Screen()
    options = PrepareOptions(series=dict(series), **given)
    outcomes = prepare_studies(studies, out, options, lambda line: say(screen, line))
    ctx.exit(ExitCode.CASES_FAILED if any(outcome.problem for outcome in outcomes) else ExitCode.OK)
