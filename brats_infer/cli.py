"""The command line: options in, one function call, exit code out. No logic."""

import json
import logging
import os
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brats_infer import __version__
from brats_infer.errors import BratsOptError, ExitCode, Terminated, UsageError, printable
from brats_infer.folders import prepare_folder
from brats_infer.logs import Voice, speak_as
from brats_infer.options import ByValue, DefaultGroup, Part, WithHeadings, debug, option
from brats_infer.ownership import become_owner
from brats_infer.parameters import read_parameters
from brats_infer.settings import DustFill, Mode, OnError, Settings
from brats_infer.shards import shard_of
from brats_infer.signals import INTERRUPTED, TERMINATED, end_at_once, ignore, raise_once
from brats_infer.tasks import TASKS

if TYPE_CHECKING:
    from brats_infer.pipeline import Runner
    from brats_infer.report import RunReport

INTERNAL_ERROR = 1
FILES, HOW, RUN, TELL, MLCUBE = "Files", "How to segment", "How to run", "What to say, on stderr", "As MLCube spells it"
EXAMPLES = """\b
Examples:
  brats-opt --input cases --output labels
  brats-opt --input cases --output labels --report report --mode accurate --flips
  brats-opt --input cases --output labels --task ssa --on-error blank --resume

Every option can also be given in the environment: BRATS_OPT_INPUT, BRATS_OPT_ON_ERROR, BRATS_OPT_FLIPS=1.
"""
SHIPPED = "the shipped folder"


log = logging.getLogger("brats_infer")


FOLDER = click.Path(path_type=Path)
TARGET = click.Path(path_type=Path, readable=False)  # click leaves it to the run, which has an exit code for it
TASK = click.Choice([*TASKS, "auto"])


@click.group(
    cls=DefaultGroup,
    elsewhere=dict.fromkeys(("train", "experiment", "tune"), "brats_infer.train.cli"),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
def cli() -> None:
    """Brain tumor segmentation for the BraTS challenges. Without a command: infer.

    \b
    Exit codes: 0 all written; 1 a fault of this program; 2 wrong usage; 3 some cases failed; 4 no cases;
    5 weights; 6 output; 130 interrupted; 143 terminated.

    \b
    To complete commands and options with the tabulator key, in ~/.bashrc (zsh, fish: with their names for bash):
      eval "$(_BRATS_OPT_COMPLETE=bash_source brats-opt)"
    """
    speak_as(Voice.PLAIN)


@cli.command(cls=WithHeadings, epilog=EXAMPLES)
@option("--input", "--data_path", "input_folder", type=FOLDER, default=Path("/input"), show_default=True, heading=FILES)
@option(
    "--output", "--output_path", "output_folder", type=TARGET, default=Path("/output"), show_default=True, heading=FILES
)
@option(
    "--report", type=TARGET, heading=FILES, help="A folder for a page with a viewer, pictures and figures of the run."
)
@option("--probabilities", type=TARGET, heading=FILES, help="A folder for the region probabilities.")
@option(
    "--task", type=TASK, default="auto", show_default=True, heading=HOW, help="The challenge; auto: from the case IDs."
)
@option(
    "--mode",
    type=ByValue(Mode),
    default=Settings.mode.value,
    show_default=True,
    heading=HOW,
    help="fast: the whole brain at once; accurate: overlapping windows.",
)
@option(
    "--flips/--no-flips", default=Settings.flips, show_default=True, heading=HOW, help="Mean over eight mirror images."
)
@option("--weights", type=FOLDER, show_default=SHIPPED, heading=HOW, help="A folder with a manifest.json.")
@option(
    "--dust",
    type=click.IntRange(0),
    default=Settings.dust,
    show_default=True,
    heading=HOW,
    help="Largest component removed, mm3; the paper's is 50.",
)
@option(
    "--dust-fill",
    type=ByValue(DustFill),
    default=Settings.dust_fill.value,
    show_default=True,
    heading=HOW,
    help="What dust becomes.",
)
@option("--device", default="auto", show_default=True, heading=RUN, help="auto, cpu, cuda or cuda:N.")
@option(
    "--on-error",
    type=ByValue(OnError),
    default=Settings.on_error.value,
    show_default=True,
    heading=RUN,
    help="Of a case that cannot be segmented: no map, or an empty one.",
)
@option(
    "--resume",
    is_flag=True,
    heading=RUN,
    help="Leave alone what is already there: whole, of the right shape, not empty.",
)
@option(
    "--shard",
    type=Part(),
    show_default="as Slurm, Kubernetes or torchrun say, else 1/1",
    heading=RUN,
    help="Only the K-th of N parts of the cases.",
)
@option(
    "--ray",
    metavar="local|HOST:PORT",
    heading=RUN,
    help="Run the cases on a Ray cluster: of this machine, or that one.",
)
@option(
    "--become-owner", "becoming_owner", is_flag=True, heading=RUN, help="As root: first become the owner of --output."
)
@option(
    "--verbose",
    "-v",
    "voice",
    flag_value=Voice.VERBOSE,
    type=ByValue(Voice),
    heading=TELL,
    help="Also networks, device and the time of each stage.",
)
@option(
    "--quiet",
    "-q",
    "voice",
    flag_value=Voice.QUIET,
    type=ByValue(Voice),
    heading=TELL,
    help="Only warnings and errors.",
)
@option(
    "--json",
    "voice",
    flag_value=Voice.JSON,
    type=ByValue(Voice),
    heading=TELL,
    help="A JSON object a line, for programs.",
)
@option("--additional_files", type=FOLDER, heading=MLCUBE, help="As --weights; ignored without a manifest.json in it.")
@option("--parameters_file", type=FOLDER, heading=MLCUBE, help="A YAML file of options; may be absent or empty.")
@debug
@click.pass_context
def infer(
    ctx: click.Context, /, parameters_file: Path | None, becoming_owner: bool, voice: Voice | None, **given: Any
) -> None:
    """Segment every case of a folder: --input/{ID}/{ID}-{t1n,t1c,t2w,t2f}.nii.gz to --output/{ID}.nii.gz."""
    raise_once()
    speak_as(voice or Voice.PLAIN)
    if becoming_owner:
        inputs = (given["input_folder"], given["weights"], given["additional_files"], parameters_file)
        become_owner(given["output_folder"], [path for path in inputs if path])
    given |= _from_file(ctx, parameters_file)
    shard = given["shard"] or shard_of(os.environ)
    with end_at_once():
        from brats_infer.pipeline import Status, segment_folder
        from brats_infer.progress import Progress
        from brats_infer.watch import Watcher

        report = _report_of(given)
    with Progress(str(shard), voice=voice or Voice.PLAIN) as progress:
        watcher = Watcher(progress.start, progress.stage, result=progress.advance)
        results = segment_folder(
            given["input_folder"],
            given["output_folder"],
            task=given["task"],
            weights=_weights(given["weights"], given["additional_files"]),
            device=given["device"],
            settings=Settings(**{field.name: given[field.name] for field in fields(Settings)}),
            shard=(shard.number, shard.count),
            watcher=report.beside(watcher) if report else watcher,
            runner=_runner(given["ray"]),
        )
    if report:
        report.write(given["input_folder"], given["output_folder"], given["task"], results)
    ctx.exit(ExitCode.CASES_FAILED if any(r.status is Status.FAILED for r in results) else ExitCode.OK)


@cli.command()
@option("--input", "input_folder", type=FOLDER, required=True)
@option("--output", "output_folder", type=FOLDER, required=True)
@option("--task", type=TASK, default="auto", show_default=True)
@debug
@click.pass_context
def check(ctx: click.Context, input_folder: Path, output_folder: Path, task: str) -> None:
    """Compare an output folder with the contract; a line for each thing that breaks it, exit code 6 if any does."""
    from brats_infer.check import check_output

    findings = check_output(input_folder, output_folder, task)
    for finding in findings:
        click.echo(f"{'warning' if finding.warning else 'error'}: {printable(finding.message)}")
    faults = sum(not finding.warning for finding in findings)
    click.echo(f"{faults} errors, {len(findings) - faults} warnings")
    ctx.exit(ExitCode.OUTPUT if faults else ExitCode.OK)


@cli.command()
@option("--predictions", type=FOLDER, required=True, help="Label maps {ID}.nii.gz.")
@option("--references", type=FOLDER, required=True, help="Label maps {ID}-seg.nii.gz, flat or in case folders.")
@option("--task", type=click.Choice(list(TASKS)), required=True, help="Whose settings of the scores.")
@option("--metrics", type=click.Choice(["2023", "2026"]), default="2023", show_default=True)
@option("--csv", "csv_file", type=FOLDER, help="A file for the table.")
@option("--json", "json_file", type=FOLDER, help="A file for the table and the means.")
@option("--jobs", type=click.IntRange(1), show_default="one a core", help="Processes that work at a time.")
@debug
@click.pass_context
def evaluate(
    ctx: click.Context, /, predictions: Path, references: Path, task: str, metrics: str, jobs: int | None, **files: Path
) -> None:
    """Score label maps as the challenges do. Exit code 3 if predictions are missing; they get the worst scores."""
    from brats_infer.evaluate import evaluate_folders
    from brats_infer.evaluate.tables import print_table, write_csv, write_json

    scores = evaluate_folders(predictions, references, TASKS[task], metrics, jobs)
    print_table(scores)
    if files["csv_file"]:
        write_csv(scores, files["csv_file"])
    if files["json_file"]:
        write_json(scores, files["json_file"])
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)


@cli.command()
@option("--predictions", type=FOLDER, required=True, help="Label maps {ID}.nii.gz.")
@option("--references", type=FOLDER, required=True, help="Label maps {ID}-seg.nii.gz, flat or in case folders.")
@option("--images", type=FOLDER, required=True, help="The cases, as infer takes them.")
@option("--out", type=TARGET, required=True, help="A folder for the page.")
@option("--task", type=click.Choice(list(TASKS)), required=True, help="Whose settings of the scores.")
@option("--before", type=FOLDER, help="The label maps before post-processing, to be scored beside them.")
@option("--jobs", type=click.IntRange(1), show_default="one a core", help="Processes that work at a time.")
@debug
@click.pass_context
def report(ctx: click.Context, /, out: Path, task: str, predictions: Path, references: Path, **given: Any) -> None:
    """Make a page of predictions beside references: scores, lesion by lesion, the worst first.

    Exit codes as evaluate.
    """
    from brats_infer.report import compare_folders

    prepare_folder(out, "--out", {"the folder of the predictions": predictions, "that of the references": references})
    scores = compare_folders(predictions, references, given["images"], out, TASKS[task], given["before"], given["jobs"])
    click.echo(out / "index.html")
    ctx.exit(ExitCode.CASES_FAILED if scores.missing else ExitCode.OK)


@cli.command()
@option("--task", type=click.Choice(list(TASKS)), required=True)
@option("--cases", "count", type=click.IntRange(1), required=True, help="How many.")
@option("--out", type=FOLDER, required=True)
@option("--seed", type=click.IntRange(0, 99), default=0, show_default=True)
@option("--anatomy", default="mni152", show_default=True, help="mni152, ellipsoid, or a folder of label maps.")
@debug
def phantom(task: str, count: int, out: Path, seed: int, anatomy: str) -> None:
    """Write synthetic cases with labels, in the layout of 2023, to train on and to try things on."""
    from brats_infer.phantom.cohort import write_cohort

    for case_id in write_cohort(out, task, count, seed, anatomy):
        click.echo(out / case_id)


@cli.command()
@option("--weights", type=FOLDER, show_default=SHIPPED)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@debug
def info(weights: Path | None, as_json: bool) -> None:
    """Show what would run on what: version, device, networks with their hashes."""
    from brats_infer.info import describe, render

    facts = describe(weights)
    click.echo(json.dumps(facts, indent=2) if as_json else render(facts))


def main() -> None:
    """Runs the command line and turns every ending into a documented exit code and one line."""
    try:
        code = cli.main(prog_name="brats-opt", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _fail(INTERRUPTED, ExitCode.INTERRUPTED)
    except Terminated:
        code = _fail(TERMINATED, ExitCode.TERMINATED)
    except BratsOptError as error:
        log.debug("", exc_info=error)
        code = _fail(str(error), error.exit_code)
    except Exception as error:
        log.debug("", exc_info=error)
        code = _fail(
            f"{type(error).__name__}: {error}: this is a fault of brats-opt, --debug shows where", INTERNAL_ERROR
        )
    ignore()
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    log.error("brats-opt: %s", printable(message))
    return int(code)


def _report_of(given: dict[str, Any]) -> "RunReport | None":
    """The report, if one is wanted."""
    if not given["report"]:
        return None
    from brats_infer.report import RunReport

    taken = {"the input folder": given["input_folder"], "the output folder": given["output_folder"]}
    prepare_folder(given["report"], "--report", taken)
    return RunReport(given["report"], {name: str(value) for name, value in given.items() if value is not None})


def _runner(ray: str | None) -> "Runner | None":
    """Where the cases are run, if not in this process."""
    if ray is None:
        return None
    if not find_spec("ray"):
        raise UsageError("--ray needs ray: pip install 'brats-opt[scale]'")
    from brats_infer.scale import on_ray

    return on_ray(ray)


def _weights(weights: Path | None, additional_files: Path | None) -> Path:
    from brats_infer.ensemble import SHIPPED_WEIGHTS
    from model.checkpoint import MANIFEST

    if weights is None and additional_files and (additional_files / MANIFEST).exists():
        return additional_files
    return weights or SHIPPED_WEIGHTS


def _from_file(ctx: click.Context, path: Path | None) -> dict[str, Any]:
    """What the parameters file sets and the command line does not, checked like the command line."""
    if path is None:
        return {}
    values = {}
    options = {param.name: param for param in ctx.command.params}
    for name, value in read_parameters(path).items():
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.COMMANDLINE:
            try:
                values[name] = options[name].type_cast_value(ctx, value)
            except click.BadParameter as error:
                raise UsageError(f"{path}: {name}: {error.message}") from error
    return values
