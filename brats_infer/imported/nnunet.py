"""A trained model's folder of nnU-Net v2: `DATASET/TRAINER__PLANS__CONFIGURATION/`."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brats_infer.errors import WeightsError
from brats_infer.imported.labels import Outputs, channels_of, outputs_of
from brats_infer.imported.model import Found, Wanted
from brats_infer.imported.parameters import Turn, missing_heads, nnunet_name, nnunet_state, own_state
from brats_infer.imported.plans import Plan, plan_of
from brats_infer.imported.unfit import UnfitError
from brats_infer.imported.untrusted import read_checkpoint, read_json
from brats_infer.tasks import Task
from model.source import Source

PROGRAM = "nnU-Net v2"
DATASET, PLANS = "dataset.json", "plans.json"
TRAINER = re.compile(r"nnUNetTrainer\w*")
ALL = "all"


@dataclass(frozen=True)
class Description:
    """What a model's folder says beside the checkpoints."""

    folder: Path
    configuration: str
    plan: Plan
    outputs: Outputs
    channels: tuple[int, ...]
    sha256: str

    @property
    def turn(self) -> Turn:
        return Turn(self.plan.axes, self.channels, self.outputs.order)


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is that of a trained model."""
    return (folder / DATASET).is_file() and (folder / PLANS).is_file()


def models_below(folder: Path) -> list[Path]:
    """The folders of trained models in a folder, at most two below it, as in `nnUNet_results/DATASET`."""
    found = (path.parent for pattern in (DATASET, f"*/{DATASET}", f"*/*/{DATASET}") for path in folder.glob(pattern))
    return sorted(path for path in found if is_nnunet(path))


def read_nnunet(folder: Path, task: Task, wanted: Wanted) -> Iterator[Found]:
    """The networks of a model's folds. Raises WeightsError, naming the file, before the first one or at a fold."""
    checkpoints = {fold: _checkpoint(folder, fold, wanted.checkpoint) for fold in _folds(folder, wanted.folds)}
    description: Description | None = None
    for fold, path in checkpoints.items():
        content = read_checkpoint(path)
        configuration = _configuration(folder, path, content)
        if description is None:
            description = _described(folder, configuration, task, wanted)
        if configuration != description.configuration:
            raise WeightsError(f"{path}: is of the configuration {configuration}, not {description.configuration}")
        yield _found(description, fold, path, content)


def _found(described: Description, fold: str, path: Path, content: Mapping[str, Any]) -> Found:
    """The network of a checkpoint. Raises WeightsError."""
    plan, outputs = described.plan, described.outputs
    regions = len(outputs.order) - int(outputs.background)
    config = replace(plan.turned(plan.network), regions=regions, background=outputs.background)
    try:
        state = nnunet_state(content["network_weights"])
        if missing := missing_heads(state, config.levels):
            config = replace(config, deep_supervision=1 in missing)
        named = own_state(state, config, described.turn, lambda name: nnunet_name(name, config.levels))
        mirrored = _mirrored(content, plan)
    except UnfitError as error:
        raise WeightsError(f"{path}: {error}: give the folder whose plans.json it was trained with") from error
    source = Source(
        program=PROGRAM,
        model=f"{described.folder.parent.name}/{described.folder.name}",
        fold=fold,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        description_sha256=described.sha256,
        rule=str(outputs.rule),
        nnunet_windows=True,
        mirrored_axes=mirrored,
        reversed_axes=plan.reversed_axes,
    )
    notes = (f"{described.folder / DATASET}: {outputs.note}",) if outputs.note else ()
    return Found(config, named, str(plan.normalisation), plan.patch, source, notes)


def _folds(folder: Path, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The folds to read. Raises WeightsError where one is missing."""
    there = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*") if path.is_dir())
    numbered = [fold for fold in there if fold != ALL]
    folds = wanted or tuple(numbered or there)
    missing = [fold for fold in folds if fold not in there]
    if missing or not folds:
        has = f"it has {', '.join(there)}: choose other --folds" if there else "it has none: give a trained model"
        raise WeightsError(f"{folder}: has no fold {missing[0] if missing else 0}, {has}")
    return tuple(dict.fromkeys(folds))


def _checkpoint(folder: Path, fold: str, kind: str) -> Path:
    path = folder / f"fold_{fold}" / f"checkpoint_{kind}.pth"
    if not path.is_file():
        there = ", ".join(sorted(each.name for each in path.parent.glob("*.pth"))) or "no checkpoint"
        raise WeightsError(f"{path}: is missing, its folder has {there}: choose another --checkpoint or --folds")
    return path


def _configuration(folder: Path, path: Path, content: Mapping[str, Any]) -> str:
    """The configuration that a checkpoint was trained with. Raises WeightsError for a file of another program."""
    weights, given, trainer = (content.get(name) for name in ("network_weights", "init_args", "trainer_name"))
    if not isinstance(weights, Mapping) or not isinstance(given, Mapping) or not isinstance(trainer, str):
        raise WeightsError(f"{path}: is no checkpoint of nnU-Net v2: give the folder of a trained model")
    if not TRAINER.fullmatch(trainer):
        raise WeightsError(f"{path}: is of the trainer {trainer}, not of nnU-Net's own: its windows are not known")
    if not folder.name.startswith(f"{trainer}__") and "__" in folder.name:
        raise WeightsError(f"{path}: is of the trainer {trainer}, its folder of another one: give its own folder")
    return str(given.get("configuration"))


def _described(folder: Path, configuration: str, task: Task, wanted: Wanted) -> Description:
    """Raises WeightsError for a model that cannot be a member."""
    plans, dataset = read_json(folder / PLANS), read_json(folder / DATASET)
    try:
        plan = plan_of(plans, configuration)
    except UnfitError as error:
        raise WeightsError(f"{folder / PLANS}: its plans {error}") from error
    names = dataset.get("channel_names") or dataset.get("modality")
    labels = dataset.get("labels")
    if not isinstance(names, dict) or not isinstance(labels, dict):
        raise WeightsError(f"{folder / DATASET}: names no channels or no labels: take the data set's own file")
    try:
        in_order = [str(names[number]) for number in sorted(names, key=int)]
        channels = channels_of(in_order, wanted.channels)
        outputs = outputs_of(labels, dataset.get("regions_class_order"), task)
    except (UnfitError, ValueError, TypeError) as error:
        raise WeightsError(f"{folder / DATASET}: {error}") from error
    content = (folder / PLANS).read_bytes() + (folder / DATASET).read_bytes()
    return Description(folder, configuration, plan, outputs, channels, hashlib.sha256(content).hexdigest())


def _mirrored(content: Mapping[str, Any], plan: Plan) -> tuple[int, ...]:
    """Our axes that the model may be mirrored along. Raises UnfitError."""
    axes = content.get("inference_allowed_mirroring_axes") or ()
    if any(axis not in (0, 1, 2) for axis in axes):
        raise UnfitError(f"has the mirroring axes {axes}, not some of 0, 1 and 2")
    return tuple(sorted(plan.own_axis(axis) for axis in axes))
