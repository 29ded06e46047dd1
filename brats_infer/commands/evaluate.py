"""`brats-opt evaluate`: official scores of label maps."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brats_infer.commands.options.click_options import PATH, debug, option
from brats_infer.commands.options.scoring import scoring, warn
from brats_infer.errors import ExitCode
from brats_infer.system.signals import raise_once

if TYPE_CHECKING:
    from brats_infer.evaluate.pairs import Pair


@click.command()
@partial(scoring, required=False)
@option("--prediction", type=PATH, help="One label map, of any name, in place of --predictions.")
@option("--reference", type=PATH, help="Its reference, in place of --references.")
@option("--metrics", type=click.Choice(["2023", "2024", "2026"]), default="2023", show_default=True)
@option("--csv", "csv_file", type=PATH, help="A file for the table.")
@option("--lesions", "lesions_file", type=PATH, help="A CSV file for the scores of each lesion (2023, 2024).")
@click.option(  # without a variable: BRATS_OPT_JSON is the flag of `infer`
    "--json", "json_file", type=PATH, help="A file for the table, the means and the warnings."
)
@debug
@click.pass_context
def evaluate(ctx: click.Context, /, task: str, metrics: str, jobs: int | None, **given: Path | None) -> None:
    """Score label maps as the challenges do.

    Give two folders, or the two files of one case.

    Exit code 2 for a prediction without a reference; 3 if predictions are missing, which get the worst scores, or a
    file cannot be read, without which no table is written; 4 where a folder holds no map.
    """
    from brats_infer.evaluate.challenge import task_for
    from brats_infer.evaluate.folder_scores import evaluate_pairs
    from brats_infer.evaluate.score_files import print_table, write_csv, write_json, write_lesions

    raise_once()
    if given["lesions_file"] and metrics == "2026":
        raise click.UsageError("--lesions lists lesions by the metrics of 2023 and 2024: choose one with --metrics")
    pairs = _pairs(given["predictions"], given["references"], given["prediction"], given["reference"])
    chosen = task_for([pair.id for pair in pairs], task)
    scores = evaluate_pairs(pairs, chosen, metrics, jobs)
    warn(scores.warnings, "--json FILE keeps all of them")
    print_table(scores)  # first: a file that cannot be written must not cost the scores
    for file, write in (("csv_file", write_csv), ("lesions_file", write_lesions), ("json_file", write_json)):
        if path := given[file]:
            write(scores, path)
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)


def _pairs(
    predictions: Path | None, references: Path | None, prediction: Path | None, reference: Path | None
) -> "list[Pair]":
    """The pairs of two folders or of two files. A wrong choice of options is a usage error."""
    from brats_infer.evaluate.pairs import find_pairs, pair_of_files

    if predictions and references and not (prediction or reference):
        return find_pairs(predictions, references)
    if prediction and reference and not (predictions or references):
        return [pair_of_files(prediction, reference)]
    raise click.UsageError("give the folders --predictions and --references, or the files --prediction and --reference")
