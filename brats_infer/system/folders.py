"""The folders that a run writes to: they are created and tested before the work starts."""

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from brats_infer.errors import OutputError, UsageError
from model.atomic import remove_leftovers

OUTPUT = "the output folder"


def prepare_folder(folder: Path, option: str, others: Mapping[str, Path]) -> None:
    """Creates the folder that `option` names, tests a write, and removes temporary files of killed runs.

    `others` is {description: folder}: folders that it must differ from.

    Raises UsageError if it is one of `others` or lies in the output folder, or if it is the output folder and holds
    one of `others`. Raises OutputError if it cannot be written.
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
