"""One case: its ID, its images, and its problem if there is one."""

import re
from dataclasses import dataclass
from pathlib import Path

from brats_infer.tasks import Task

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
ID_RULE = "at most 128 letters, digits, . - and _, no sign first, no .."


@dataclass(frozen=True)
class Case:
    """One patient's images, or the reason why they cannot be used."""

    id: str
    task: Task | None
    """None if the ID names no challenge and the user gives none."""
    paths: dict[str, Path]
    """{modality name: file}, in the order of the task's modalities."""
    problem: str | None = None
    """Why the case is unusable, in one line. The run reports it as failed and never drops it."""
    lacks: bool = False
    """Whether the problem is a contrast without a file, and nothing else."""
    ambiguous: bool = False
    """Whether another case has the same output name."""
    channels: tuple[str, ...] = ()
    """The contrasts of the volumes of one 4-D image, in order; `paths` then holds that file for each contrast."""

    @property
    def output_name(self) -> str:
        return f"{self.id}.nii.gz"


def is_safe_id(case_id: str) -> bool:
    """Whether a case ID is a safe file name, which stays in the output folder."""
    return bool(SAFE_ID.fullmatch(case_id)) and ".." not in case_id
