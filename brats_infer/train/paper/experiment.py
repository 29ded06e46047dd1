"""`brats-opt experiment`: trains and scores the rows of a table, one after the other, on the user's data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brats_infer.errors import UsageError
from brats_infer.evaluate.scores import CohortScores
from brats_infer.network.loading import pick_device
from brats_infer.system.console import Screen, say
from brats_infer.tasks import task_named
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.labelled import labelled_ids
from brats_infer.train.data.material import CACHE, Material, check_phantoms
from brats_infer.train.data.splits import Fold, folds_of
from brats_infer.train.loop import train
from brats_infer.train.monitor.pace import teller
from brats_infer.train.paper.held_out import NO_MANIFEST, score_held_out
from brats_infer.train.paper.paper_tables import MEAN, Row, write_tables
from brats_infer.train.publish import publish
from brats_infer.train.recipes import Figures, Recipe, read_recipe, recipe_names
from brats_infer.train.run import only_run_in, prepare
from brats_infer.train.transfer import Initial, options_with, read_initial
from model.atomic import write_atomically

RESULT = "row.json"


@dataclass(frozen=True)
class Plan:
    """A row to run."""

    name: str
    recipe: Recipe
    options: TrainOptions
    task: str
    fold: Fold
    identity: dict[str, Any]
    """The options and cases that a finished row must have had."""


def run_experiment(
    table: str,
    given: Mapping[str, Any],
    *,
    task: str | None,
    data: Path,
    out: Path,
    init: Path | None,
    device: str,
    cache: Path | None = None,
    phantoms: Path | None = None,
) -> list[Row]:
    """Trains and scores every row of a table; writes `table.csv`, `.md` and `.png`, beside any figures of the paper.

    `given` are the options of the command line; they win over every recipe. All rows hold out the same cases. A
    finished row is not run again; a stopped row resumes. Raises UsageError for options that cannot work.
    """
    initial = read_initial(init) if init else None
    material = Material(data, cache or out / CACHE, phantoms)
    names = names_of(table)
    if initial and not any(read_recipe(name).init for name in names):
        raise UsageError(f"experiment {table}: none of its rows starts with trained weights: leave --init out")
    if initial and initial.member is None and not all(read_recipe(name).trains for name in names):
        raise UsageError(f"--init {initial.path}: {NO_MANIFEST}")
    plans = [_plan(name, given, task, material, initial) for name in names]
    rows = []
    with only_run_in(out):
        for number, plan in enumerate(plans, start=1):
            say(Screen(), f"row {number} of {len(plans)}: {plan.name}")
            rows.append(_row(plan, material, out / plan.name, initial, device))
            write_tables(rows, out)
    return rows


def names_of(table: str) -> list[str]:
    """The recipes of a table, in the order of its rows. Raises UsageError for an unknown table."""
    rows = {name: row for name in recipe_names() if (row := read_recipe(name).row)}
    chosen = [name for name, row in rows.items() if row.table == table]
    if not chosen:
        tables = sorted({row.table for row in rows.values()})
        raise UsageError(f"experiment {table}: is unknown: choose one of {', '.join(tables)}")
    return sorted(chosen, key=lambda name: rows[name].number)


def _plan(name: str, given: Mapping[str, Any], task: str | None, material: Material, initial: Initial | None) -> Plan:
    recipe = read_recipe(name)
    if recipe.init and initial is None:
        raise UsageError(f"experiment: the row {name} needs trained weights: give them with --init")
    task = task or recipe.task
    assert task
    options = options_with(initial, recipe.options, given)
    check_phantoms(options, material)
    folds = list(folds_of(options, task, material.data))
    if len(folds) != 1 or not folds[0].hold_out:
        raise UsageError("experiment: all rows are scored on the same held-out cases: give --fold N, or --hold-out ID")
    identity = {
        "options": options.model_dump(mode="json"),
        "init": initial.sha256 if initial else None,
        "task": task,
        "cases": labelled_ids(material.data, task, options.skip),
        "phantoms": labelled_ids(material.phantoms, task, ()) if material.phantoms else [],
        "held_out": list(folds[0].hold_out),
    }
    return Plan(name, recipe, options, task, folds[0], identity)


def _row(plan: Plan, material: Material, out: Path, initial: Initial | None, device: str) -> Row:
    """Runs a row, or reads its stored result."""
    assert plan.recipe.row
    if (out / RESULT).exists():
        try:
            found = json.loads((out / RESULT).read_text(encoding="utf-8"))
            here, voxelwise = (Figures.model_validate(found[kind]) for kind in ("here", "voxelwise"))
            identity = found["identity"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UsageError(f"{out / RESULT}: cannot be read ({error}): remove it, to run the row again") from error
        if identity != plan.identity:
            raise UsageError(f"{out / RESULT}: was run with other options or cases: choose another --out")
        return Row(plan.recipe.row, here, voxelwise, plan.recipe.paper)
    if plan.recipe.trains:
        weights = _trained(plan, material, out, initial if plan.recipe.init else None, device)
    else:
        assert initial
        weights = initial
    task, on = task_named(plan.task), pick_device(device)
    scores = score_held_out(weights, plan.fold.hold_out, material.data, task, plan.recipe.postprocess, out, on)
    here, voxelwise = (_figures(scores, kind) for kind in ("lesionwise", "legacy"))
    content = {"identity": plan.identity, "here": here.model_dump(), "voxelwise": voxelwise.model_dump()}
    write_atomically(out / RESULT, (json.dumps(content, indent=1) + "\n").encode())
    return Row(plan.recipe.row, here, voxelwise, plan.recipe.paper)


def _figures(scores: CohortScores, kind: str) -> Figures:
    """Means over the cases, and over their regions."""
    dice, hd95 = (
        {region: round(values[f"{kind}_{score}"], digits) for region, values in scores.mean.items()}
        for score, digits in (("dice", 4), ("hd95", 2))
    )
    dice[MEAN] = round(float(np.mean(list(dice.values()))), 4)
    hd95[MEAN] = round(float(np.mean(list(hd95.values()))), 2)
    return Figures(dice=dice, hd95=hd95)


def _trained(plan: Plan, material: Material, out: Path, initial: Initial | None, device: str) -> Initial:
    """Trains a row's network, publishes it beside the run, and returns it."""
    config, split = prepare(plan.options, plan.fold, plan.task, material, initial)
    tell = teller(config, split)
    on = pick_device(device)
    best = train(config, split, task_named(plan.task), out / "run", on, initial, tell, on_pace=tell)
    member = publish(out / "weights", out / "run", plan.task, config, split, best, "", "")
    return read_initial(out / "weights" / member.file)
