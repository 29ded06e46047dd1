"""`brats-opt info`: version, device and networks of this installation."""

import json
import platform
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from brats_infer import __version__
from brats_infer.commands.options.click_options import SHIPPED, TARGET, debug, option
from brats_infer.errors import WeightsError
from brats_infer.tasks import BRAIN, TASKS

WIDTH = 100  # of the line that says what a member learned from


@click.command()
@option("--weights", type=TARGET, show_default=SHIPPED)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@debug
def info(weights: Path | None, as_json: bool) -> None:
    """Show what would run on what: version, device, networks with their hashes."""
    facts = describe(weights)
    click.echo(json.dumps(facts, indent=2) if as_json else render(facts))


def describe(weights: Path | None = None) -> dict[str, Any]:
    """Version, device and every member, loaded as for a run. Raises WeightsError."""
    import torch

    from brats_infer.network.devices import CPU, limit_threads, precision
    from brats_infer.network.loading import SHIPPED_WEIGHTS, engine_name, load_ensemble, pick_device
    from model.checkpoint import CheckpointError, load_member, read_manifest

    folder = weights or SHIPPED_WEIGHTS
    try:
        members = read_manifest(folder)
        for name in {member.task for member in members} & set(TASKS):
            load_ensemble(folder, TASKS[name], CPU)
        for member in members:
            if member.task not in TASKS:
                load_member(folder, member)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    device = pick_device("auto" if torch.cuda.is_available() else "cpu")
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if device != CPU else []
    limit_threads()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "devices": cuda or ["cpu"],
        "engine": engine_name(device),
        "precision": precision(device),
        "threads": torch.get_num_threads(),
        "weights": str(folder),
        "members": [member.to_json() for member in members],
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as lines of text: version, device, and the networks of each challenge."""
    gpu = "" if facts["devices"] != ["cpu"] else f", {facts['threads']} threads; no GPU"
    whole = "every file as its manifest says" if facts["members"] else "whose manifest lists no network"
    lines = [
        f"brats-opt {facts['version']} (Python {facts['python']}, torch {facts['torch']})",
        f"runs on  {', '.join(facts['devices'])} in {facts['precision']} with {facts['engine']}{gpu}",
        f"weights  {facts['weights']}, {whole}",
    ]
    others = [
        f"{m['file']}  {'strips skulls' if m['task'] == BRAIN else 'is of the unknown task ' + m['task']}"
        for m in facts["members"]
        if m["task"] not in TASKS
    ]
    return "\n".join([*lines, *(line for task in TASKS for line in _lines_of(task, facts["members"])), *others])


def _lines_of(task: str, members: list[dict[str, Any]]) -> Iterator[str]:
    own = [member for member in members if member["task"] == task]
    none = f"no network: `brats-opt train --task {task} --publish` or `brats-opt import` makes one"
    yield f"--task {task}  {TASKS[task].title}: " + (f"{len(own)} network{'s' * (len(own) > 1)}" if own else none)
    for member in own:
        config = member["config"]
        grid = f"{config.get('spacing', 1)} mm, {config['channels'][0]} to {config['channels'][-1]} channels"
        absent = ", also without one or two contrasts" if member["absent_contrasts"] else ""
        yield f"    {member['file']}  {grid}, {member['normalisation']}, {member['licence']}{absent}"
        yield f"        sha256 {member['sha256']}"
        data = member["trained_on"].split(". ")[0].removesuffix(".")
        if source := member.get("source"):
            yield f"        of {source['program']}, fold {source['fold']}: {source['model']}, labels {source['rule']}"
        elif data:
            yield "        learned from " + textwrap.shorten(data, WIDTH, placeholder=" …")
