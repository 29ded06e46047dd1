"""From a finished run to a member of a weights folder."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_infer.errors import OutputError, WeightsError
from brats_infer.train.checkpoint import read_best
from brats_infer.train.data.dataset import Split
from brats_infer.train.run_config import TrainConfig
from model.atomic import alone_in, write_atomically
from model.checkpoint import MANIFEST, CheckpointError, read_manifest, save_reference, write_manifest
from model.config import Member


def open_members(folder: Path) -> list[Member]:
    """The members of a weights folder; a missing folder is created. Raises WeightsError, OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return read_manifest(folder) if (folder / MANIFEST).exists() else []
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise _unwritable(folder, error) from error


def publish(
    folder: Path, run: Path, task: str, config: TrainConfig, split: Split, best: dict[str, Any], text: str, licence: str
) -> Member:
    """Copies a run's best checkpoint into a weights folder and lists it as the task's next fold. Returns the entry.

    A checkpoint that the manifest lists for the task is not added again, so a command can be repeated. No file is
    overwritten. Runs that publish at the same time wait for each other. Raises WeightsError, OutputError.
    """
    open_members(folder)
    try:
        with alone_in(folder, wait=True):
            return _added(folder, read_best(run), task, config, split, best, text, licence)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _added(
    folder: Path,
    content: bytes,
    task: str,
    config: TrainConfig,
    split: Split,
    best: dict[str, Any],
    text: str,
    licence: str,
) -> Member:
    """As `publish`, from the content of a checkpoint."""
    members = open_members(folder)
    sha256 = hashlib.sha256(content).hexdigest()
    for member in members:
        if (member.task, member.sha256) == (task, sha256):
            return member
    fold = 1 + max((member.fold for member in members if member.task == task), default=-1)
    while (folder / _file(task, fold)).exists():  # listed for another task, or not at all
        fold += 1
    member = Member(
        file=_file(task, fold),
        sha256=sha256,
        task=task,
        fold=fold,
        config=config.network,
        normalisation=config.options.normalisation,
        window=config.patch,
        trained_on=text or trained_on(config, split),
        licence=licence,
        absent_contrasts=config.options.drop_contrasts > 0,
        scores={"held out": best.get("cases", {}), "dice": best.get("dice"), "step": best.get("step")},
    )
    write_atomically(folder / member.file, content)
    if split.histogram is not None:
        member = replace(member, histogram_sha256=save_reference(folder / member.histogram_file, split.histogram))
    write_manifest(folder, [*members, member])
    return member


def trained_on(config: TrainConfig, split: Split) -> str:
    """The cases and weights that a run was trained with: the manifest's text if the user gives none."""
    parts = [", ".join(case.id for case in split.training)]
    if split.phantoms:
        parts.append(f"{len(split.phantoms)} phantoms")
    if config.options.anatomy:
        parts.append(f"phantoms made while training (anatomy: {config.options.anatomy})")
    if config.initial_sha256:
        parts.append(f"begun with the weights of sha256 {config.initial_sha256}")
    return "; ".join(part for part in parts if part)


def _file(task: str, fold: int) -> str:
    return f"{task}-{fold}.safetensors"


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(f"{error.filename or folder}: cannot be used ({error.strerror}): choose another --publish")
