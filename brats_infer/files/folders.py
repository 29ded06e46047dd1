"""The folders that a run writes to: each one its own, made and tried before any work is done."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from brats_infer.errors import OutputError, UsageError
from model.atomic import remove_leftovers

OUTPUT = "the output folder"


def prepare_folder(folder: Path, option: str, others: Mapping[str, Path]) -> None:
    """Makes the folder that `option` names, tries it, and removes what a killed run left half written in it.

    `others` are {what it is: folder} that it may not be.

    Raises UsageError if it is one of them or in the output folder, or the output folder with one of them in it;
    OutputError if it cannot be written.
    """
    for what, other in others.items():
        if os.path.realpath(folder) == os.path.realpath(other):
            raise UsageError(f"{folder}: is {what}: choose another {option}")
        if option == "--output" and Path(os.path.realpath(other)).is_relative_to(os.path.realpath(folder)):
            raise UsageError(f"{folder}: holds {what}, and is to hold label maps alone: choose another {option}")
        if what == OUTPUT and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(other)):
            raise UsageError(f"{folder}: lies in {what}, which holds label maps alone: choose another {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder, prefix=".brats-trial-"):
            pass
        remove_leftovers(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}): choose another {option}") from error
