"""Imports a model: recognises it by its content, and adds its networks to a weights folder."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save

from brats_infer.errors import OutputError, WeightsError, printable
from brats_infer.imported.dynunet import is_dynunet, read_dynunet
from brats_infer.imported.model import Found, Wanted
from brats_infer.imported.nnunet import is_nnunet, models_below, read_nnunet
from brats_infer.imported.untrusted import read_checkpoint
from brats_infer.tasks import Task
from model.atomic import alone_in, write_atomically
from model.checkpoint import MANIFEST, CheckpointError, load_member, read_manifest, write_manifest
from model.config import Member

log = logging.getLogger(__name__)


def import_model(path: Path, weights: Path, task: Task, licence: str, wanted: Wanted) -> list[Member]:
    """Adds the networks of a model to a weights folder, and returns their entries in the manifest.

    `path` is a folder of nnU-Net v2, a file of a DynUNet, or another weights folder. All of it is read and checked
    before anything is written. A network that the task has already is not added again.
    Raises WeightsError, which names the file, and OutputError.
    """
    if (path / MANIFEST).is_file():
        found = _own(path, task)
    else:
        found = [_entry(each, task, licence) for each in _read(path, task, wanted)]
    try:
        with alone_in(weights, wait=True):
            return _added(weights, found, task)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        reason = f"{error.filename or weights}: cannot be written ({error.strerror}): choose another --weights"
        raise OutputError(reason) from error


def _read(path: Path, task: Task, wanted: Wanted) -> Sequence[Found]:
    if path.is_file():
        if not is_dynunet(read_checkpoint(path)):
            raise WeightsError(
                f"{path}: holds no DynUNet: give its file, or the folder of nnU-Net with plans.json and dataset.json"
            )
        return [read_dynunet(path, task, wanted)]
    folder = path
    if not is_nnunet(path):
        models = models_below(path) if path.is_dir() else []
        if len(models) != 1:
            several = f"holds the models {', '.join(each.name for each in models)}: give one of them"
            raise WeightsError(f"{path}: {several if models else 'is no model: give one of nnU-Net v2 or a DynUNet'}")
        folder = models[0]
    found = list(read_nnunet(folder, task, wanted))
    for note in dict.fromkeys(note for each in found for note in each.notes):
        log.warning("warning: %s", printable(note))
    return found


def _entry(found: Found, task: Task, licence: str) -> tuple[Member, bytes]:
    """A member without its file and fold, and the file's content: float32, as the source has it."""
    content = save(dict(found.state))
    member = Member(
        file="",
        sha256=hashlib.sha256(content).hexdigest(),
        task=task.name,
        fold=0,
        config=found.config,
        normalisation=found.normalisation,
        window=found.window,
        trained_on=f"imported from {found.source.program}: {found.source.model}, fold {found.source.fold}",
        licence=licence,
        source=found.source,
    )
    return member, content


def _own(folder: Path, task: Task) -> list[tuple[Member, bytes]]:
    """The task's members of another weights folder, verified. Raises WeightsError."""
    try:
        members = [member for member in read_manifest(folder) if member.task == task.name]
        for member in members:
            load_member(folder, member)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    if not members:
        raise WeightsError(f"{folder}: lists no member for the task {task.name}: choose another --task")
    if matched := next((member.file for member in members if member.histogram_sha256), None):
        raise WeightsError(f"{folder}: {matched} has a histogram reference: publish it by brats-opt train")
    return [(member, (folder / member.file).read_bytes()) for member in members]


def _added(folder: Path, found: Sequence[tuple[Member, bytes]], task: Task) -> list[Member]:
    """Writes the files, then the manifest. Raises OSError and CheckpointError."""
    members = read_manifest(folder) if (folder / MANIFEST).exists() else []
    entries = []
    for member, content in found:
        same = [each for each in members if (each.task, each.sha256) == (task.name, member.sha256)]
        if same:
            entries.append(same[0])
            continue
        fold = 1 + max((each.fold for each in members if each.task == task.name), default=-1)
        while (folder / f"{task.name}-{fold}.safetensors").exists():
            fold += 1
        entry = Member(**{**vars(member), "file": f"{task.name}-{fold}.safetensors", "fold": fold})
        write_atomically(folder / entry.file, content)
        members.append(entry)
        entries.append(entry)
    write_manifest(folder, members)
    return entries
