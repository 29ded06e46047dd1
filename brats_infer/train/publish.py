"""From a finished run to a member of a weights folder."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from brats_infer.train.config import TrainConfig
from brats_infer.train.data import Split
from brats_infer.train.loop import BEST
from model.checkpoint import MANIFEST, Member, read_manifest, save_reference, write_manifest


def publish(
    folder: Path, run: Path, task: str, config: TrainConfig, split: Split, best: dict[str, Any], text: str, licence: str
) -> Member:
    """Copies a run's best checkpoint into a weights folder and lists it as the task's next fold. Returns the entry.

    A checkpoint that is listed for the task already is left as it is, so that a command can be given again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    members = read_manifest(folder) if (folder / MANIFEST).exists() else []
    sha256 = hashlib.sha256((run / BEST).read_bytes()).hexdigest()
    for member in members:
        if (member.task, member.sha256) == (task, sha256):
            return member
    fold = 1 + max((member.fold for member in members if member.task == task), default=-1)
    name = f"{task}-{fold}.safetensors"
    shutil.copyfile(run / BEST, folder / name)
    member = Member(
        file=name,
        sha256=sha256,
        task=task,
        fold=fold,
        config=config.network,
        normalisation=str(config.normalisation),
        window=config.patch,
        trained_on=text or ", ".join(case.id for case in split.training),
        licence=licence,
        scores={"held out": best.get("cases", {}), "dice": best.get("dice"), "step": best.get("step")},
    )
    if split.histogram is not None:
        member = replace(member, histogram_sha256=save_reference(folder / member.histogram_file, split.histogram))
    write_manifest(folder, [*members, member])
    return member


def share(folder: Path, source: str, target: str, note: str) -> None:
    """Lists a task's members for another task as they are, saying so."""
    members = read_manifest(folder)
    shared = [
        replace(m, task=target, trained_on=f"{note} {m.trained_on}", scores={}) for m in members if m.task == source
    ]
    write_manifest(folder, [*members, *shared])
