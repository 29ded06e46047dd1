"""What an earlier run left in the output folder: when it counts, and when it has to go."""

from pathlib import Path

import numpy as np

from brats_infer.cases import Case
from brats_infer.errors import CaseError, OutputError
from brats_infer.volume import read_geometry, read_labels


def is_whole(path: Path, case: Case) -> bool:
    """Whether a label map on the case's grid, with the task's labels, lies under that name.

    An empty one does not count: it may be the blank map of a case that failed.
    """
    if not path.is_file() or not case.task:
        return False
    try:
        labels, geometry = read_labels(path)
        grid = read_geometry(next(iter(case.paths.values())))
    except CaseError:
        return False
    found = set(np.unique(labels).tolist())
    return geometry.is_same_grid(grid) and found != {0} and found <= {0, *case.task.labels}


def remove_older(path: Path) -> bool:
    """Removes the map of a case that has failed now, which would look like its result; says whether there was one.

    Raises OutputError.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(
            f"{path}: is of an earlier run and cannot be removed ({error.strerror}): choose another --output"
        ) from error
    return True
