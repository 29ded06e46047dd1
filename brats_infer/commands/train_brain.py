"""`brats-opt train-brain`: the member of skull stripping."""

from pathlib import Path

import click

from brats_infer.commands.options.click_options import PATH, TARGET, debug, option
from brats_infer.system.folders import prepare_folder


@click.command("train-brain")
@option("--heads", type=PATH, required=True, help="Label maps of whole heads, with SynthSeg's codes.")
@option("--data", type=PATH, help="Skull-stripped cases of BraTS, whose brains are put into synthetic heads.")
@option("--out", type=TARGET, required=True, help="The folder of the run; an unfinished run goes on.")
@option("--steps", type=click.IntRange(1), default=4000, show_default=True)
@option("--seed", type=click.IntRange(0), default=0, show_default=True)
@debug
def train_brain(heads: Path, data: Path | None, out: Path, steps: int, seed: int) -> None:
    """Train skull stripping of any contrast on synthetic heads."""
    from brats_infer.files.search.find import find_cases
    from brats_infer.phantom.heads import load_heads
    from brats_infer.train.brain import BrainOptions, RealBrains
    from brats_infer.train.brain import train_brain as train

    prepare_folder(out, "--out", {})
    cases = find_cases(data, "gli") if data else []
    brains = RealBrains([path for case in cases for path in case.paths.values()])
    path = train(load_heads(heads), brains, BrainOptions(steps=steps, seed=seed), out, click.echo)
    click.echo(f"weights: {path}")
