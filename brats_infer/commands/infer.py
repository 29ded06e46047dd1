"""`brats-opt`, which is `brats-opt infer`: the command that the container runs."""

import os
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brats_infer.commands.options.case_files import channels, four_files, links
from brats_infer.commands.options.click_options import (
    CHALLENGE_OR_AUTO,
    PATH,
    SHIPPED,
    TARGET,
    ByValue,
    Part,
    Probability,
    WithHeadings,
    debug,
    option,
)
from brats_infer.commands.options.parameters_file import read_parameters
from brats_infer.commands.options.raw_scans import refuse_beside_raw, segment_raw_scans
from brats_infer.errors import ExitCode, UsageError, WeightsError
from brats_infer.settings import DustFill, Missing, Mode, OnError, PostProcess, Settings
from brats_infer.system.console import Voice, speak_as
from brats_infer.system.folders import OUTPUT, prepare_folder
from brats_infer.system.ownership import become_owner
from brats_infer.system.shards import Shard, shard_of
from brats_infer.system.signals import end_at_once, raise_once
from brats_infer.tasks import MODALITIES

if TYPE_CHECKING:
    from brats_infer.cohort import Runner
    from brats_infer.report import RunReport

FILES, HOW, RUN, TELL, MLCUBE = "Files", "How to segment", "How to run", "What to say, on stderr", "As MLCube spells it"
EXAMPLES = """\b
Examples:
  brats-opt --input cases --output labels
  brats-opt --input cases --output labels --report report --mode sliding-window --flips
  brats-opt --input cases --output labels --task ssa --on-error blank --resume
  brats-opt --t1n t1.nii.gz --t1c t1c.nii.gz --t2w t2.nii.gz --t2f flair.nii.gz --output map.nii.gz --task gli

Every option can also be given in the environment: BRATS_OPT_INPUT, BRATS_OPT_ON_ERROR, BRATS_OPT_FLIPS=1.
"""


@click.command(cls=WithHeadings, epilog=EXAMPLES)
@option("--input", "--data_path", "input_folder", type=PATH, default=Path("/input"), show_default=True, heading=FILES)
@option(
    "--output", "--output_path", "output_folder", type=TARGET, default=Path("/output"), show_default=True, heading=FILES
)
@option(
    "--report", type=TARGET, heading=FILES, help="A folder for a page with a viewer, pictures and figures of the run."
)
@links("--input", FILES)
@four_files(FILES)
@channels(FILES)
@option(
    "--raw",
    is_flag=True,
    heading=FILES,
    help="--input holds raw scans, a folder a study: prepare them, segment them, put the maps back on the scans.",
)
@option("--probabilities", type=TARGET, heading=FILES, help="A folder for the region probabilities.")
@option(
    "--task",
    type=CHALLENGE_OR_AUTO,
    default="auto",
    show_default=True,
    heading=HOW,
    help="The challenge; auto: from the case IDs.",
)
@option(
    "--mode",
    type=ByValue(Mode),
    default=Settings.mode.value,
    show_default=True,
    heading=HOW,
    help="The whole brain at once, then closer where a tumor may be; or overlapping windows.",
)
@option(
    "--flips/--no-flips", default=Settings.flips, show_default=True, heading=HOW, help="Mean over eight mirror images."
)
@option("--weights", type=TARGET, show_default=SHIPPED, heading=HOW, help="A folder with a manifest.json.")
@option(
    "--post-process",
    type=ByValue(PostProcess),
    default=Settings.post_process.value,
    show_default=True,
    heading=HOW,
    help="Clean the label maps; auto: unless all members are imported.",
)
@option(
    "--dust",
    type=click.IntRange(0),
    default=Settings.dust,
    show_default=True,
    heading=HOW,
    help="Largest component removed, mm3; the paper's is 50.",
)
@option(
    "--component-probability",
    type=Probability(),
    default=Settings.component_probability,
    show_default=True,
    heading=HOW,
    help="Components of a lower mean go to the next region out; the paper: 0.",
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
    help="What is written for a case that fails: nothing, or an empty map.",
)
@option(
    "--missing",
    type=ByValue(Missing),
    default=Settings.missing.value,
    show_default=True,
    heading=RUN,
    help="A case without one or two usable contrasts fails, or is segmented from the others (T1c or FLAIR is needed).",
)
@option(
    "--resume",
    is_flag=True,
    heading=RUN,
    help="Leave alone whole maps that are there and not empty, whatever settings made them.",
)
@option(
    "--shard",
    type=Part(),
    default="auto",
    show_default=True,
    heading=RUN,
    help="Only the K-th of N parts of the cases; auto: as Slurm, Kubernetes or torchrun say, else all.",
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
@option("--additional_files", type=PATH, heading=MLCUBE, help="As --weights; ignored without a manifest.json in it.")
@option("--parameters_file", type=PATH, heading=MLCUBE, help="A YAML file of options; may be absent or empty.")
@debug
@click.pass_context
def infer(
    ctx: click.Context, /, parameters_file: Path | None, becoming_owner: bool, voice: Voice | None, **given: Any
) -> None:
    """Segment every case of a folder, or one case from four files.

    From --input/{ID}/{ID}-{t1n,t1c,t2w,t2f}.nii.gz to --output/{ID}.nii.gz.
    """
    raise_once()
    speak_as(voice or Voice.PLAIN)
    files = {modality.name: given[modality.name] for modality in MODALITIES if given[modality.name]}
    source, target = given["input_folder"], given["output_folder"]
    if files:
        _refuse_beside_files(ctx, given)
        source, target = next(iter(files.values())).parent, target.parent
    if becoming_owner:
        inputs = (*(files.values() or [source]), given["weights"], given["additional_files"], parameters_file)
        outputs = (target, given["report"], given["probabilities"])
        become_owner([path for path in outputs if path], [path for path in inputs if path])
    given |= _from_file(ctx, parameters_file)
    if given["raw"]:
        refuse_beside_raw(given)
    shard = Shard(1, 1) if files else given["shard"] or shard_of(os.environ)
    with end_at_once():
        from brats_infer.cohort import segment_files, segment_folder
        from brats_infer.run.events import Events, Status
        from brats_infer.run.progress_bar import Progress

        taken = {} if files else {"the input folder": source, OUTPUT: target}
        report = _report_of(given, shard, taken)
    with Progress(str(shard), voice=voice or Voice.PLAIN) as progress:
        events = Events(progress.start, progress.stage, result=progress.advance)
        common: dict[str, Any] = {
            "task": given["task"],
            "weights": _weights(ctx, given["weights"], given["additional_files"]),
            "device": given["device"],
            "settings": Settings(**{field.name: given[field.name] for field in fields(Settings)}),
            "events": report.beside(events) if report else events,
        }
        if files:
            results = [segment_files(files, given["output_folder"], **common)]
        elif given["raw"]:
            failed = segment_raw_scans(source, target, given, common, report)
            ctx.exit(ExitCode.CASES_FAILED if failed else ExitCode.OK)
        else:
            results = segment_folder(
                source,
                target,
                shard=(shard.number, shard.count),
                links=given["links"],
                channels=given["channels"],
                runner=_runner(given["ray"]),
                **common,
            )
    if report:
        report.write(target, results)
    ctx.exit(ExitCode.CASES_FAILED if any(r.status is Status.FAILED for r in results) else ExitCode.OK)


def _refuse_beside_files(ctx: click.Context, given: dict[str, Any]) -> None:
    """Raises UsageError for options of folders beside the four files."""
    wrong = [name for name in ("resume", "ray", "channels", "raw") if given[name]]
    wrong += ["input"] if _on_command_line(ctx, "input_folder") else []
    if wrong:
        raise UsageError(f"--{wrong[0]}: is for a folder of cases: leave it out beside --t1n, --t1c, --t2w and --t2f")


def _report_of(given: dict[str, Any], shard: Shard, taken: dict[str, Path]) -> "RunReport | None":
    """The report, if `--report` is given; each part of the cases has its own. Its folder is none of `taken`."""
    if not given["report"]:
        return None
    from brats_infer.report import RunReport

    if given["probabilities"]:
        taken["the folder of the probabilities"] = given["probabilities"]
    folder: Path = given["report"]
    prepare_folder(folder, "--report", taken)
    if shard.count > 1:
        folder /= f"part-{shard.number}-of-{shard.count}"
        prepare_folder(folder, "--report", taken)
    return RunReport(folder, {name: str(value) for name, value in given.items() if value is not None})


def _runner(ray: str | None) -> "Runner | None":
    """The runner of `--ray`; None runs the cases in this process. Raises UsageError."""
    if ray is None:
        return None
    if not find_spec("ray"):
        raise UsageError("--ray needs ray: pip install '.[scale]' in the project's folder")
    from brats_infer.cluster.runner import on_ray

    return on_ray(ray)


def _weights(ctx: click.Context, weights: Path | None, additional_files: Path | None) -> Path:
    """`--weights`, or `--additional_files` with a manifest, or the shipped weights.

    The command line wins over the environment. Raises WeightsError.
    """
    from brats_infer.network.loading import SHIPPED_WEIGHTS
    from model.checkpoint import MANIFEST

    over_weights = _on_command_line(ctx, "additional_files") and not _on_command_line(ctx, "weights")
    try:
        if additional_files and (weights is None or over_weights) and (additional_files / MANIFEST).exists():
            return additional_files
    except OSError as error:
        raise WeightsError(f"{additional_files}: cannot be read ({error.strerror}): check its permissions") from error
    return weights or SHIPPED_WEIGHTS


def _on_command_line(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _from_file(ctx: click.Context, path: Path | None) -> dict[str, Any]:
    """The parameters file's options that the command line does not set, with the same checks."""
    if path is None:
        return {}
    values = {}
    options = {param.name: param for param in ctx.command.params}
    for name, value in read_parameters(path).items():
        if not _on_command_line(ctx, name):
            try:
                values[name] = options[name].type_cast_value(ctx, value)
            except click.BadParameter as error:
                raise UsageError(f"{path}: {name}: {error.message}") from error
    return values
