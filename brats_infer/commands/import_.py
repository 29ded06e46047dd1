"""`brats-opt import`: weights of nnU-Net v2 and MONAI as members of a weights folder."""

import json
from pathlib import Path
from typing import Any

import click

from brats_infer.commands.options.case_files import Channels
from brats_infer.commands.options.click_options import CHALLENGE, PATH, TARGET, debug, option
from brats_infer.system.signals import raise_once
from brats_infer.tasks import TASKS


class Folds(click.ParamType[tuple[str, ...]]):
    """Numbers of folds, or `all`."""

    name = "0,1,2,3,4|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        found = tuple(str(value).split(","))
        if any(not (fold.isdecimal() or fold == "all") for fold in found):
            self.fail(f"{value!r} is neither numbers of folds such as 0,1,2 nor all", param, ctx)
        return found


class Patch(click.ParamType[tuple[int, int, int]]):
    """Three sides in voxels."""

    name = "X,Y,Z"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        if isinstance(value, tuple):
            return value[0], value[1], value[2]
        parts = str(value).split(",")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} does not give three sides in voxels, such as 128,128,128", param, ctx)
        x, y, z = map(int, parts)
        return x, y, z


@click.command("import")
@click.argument("model", type=PATH)
@option("--task", type=CHALLENGE, required=True, help="The challenge that the model was trained for.")
@option("--weights", type=TARGET, required=True, help="The weights folder that gets the members.")
@option("--licence", required=True, help="The licence of the model, for the manifest.")
@option("--folds", type=Folds(), show_default="all numbered folds that are there", help="Of nnU-Net.")
@option(
    "--checkpoint", type=click.Choice(["final", "best"]), default="final", show_default=True, help="Of nnU-Net's folds."
)
@option(
    "--channels", type=Channels(), show_default="as dataset.json names them", help="The model's contrasts, in order."
)
@option(
    "--axes",
    type=click.Choice(["xyz", "zyx"]),
    default="xyz",
    show_default=True,
    help="Of a DynUNet: how its arrays were read, by MONAI and nibabel (xyz) or by SimpleITK (zyx).",
)
@option("--patch", type=Patch(), default="128,128,128", show_default=True, help="Of a DynUNet: its windows.")
@debug
def import_(model: Path, task: str, weights: Path, licence: str, **given: Any) -> None:
    """Add a trained model of nnU-Net v2 or MONAI to a weights folder.

    MODEL is a folder with dataset.json, plans.json and fold_N/, a file of a DynUNet, or another weights folder. No code
    from it runs.
    """
    from brats_infer.imported.model import Wanted
    from brats_infer.imported.write import import_model

    raise_once()
    wanted = Wanted(**{name: value for name, value in given.items() if value})
    members = import_model(model, weights, TASKS[task], licence, wanted)
    click.echo(json.dumps([member.to_json() for member in members], indent=2))
