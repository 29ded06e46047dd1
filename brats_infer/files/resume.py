"""Which cases an earlier run has finished, for `--resume`."""

from pathlib import Path

from brats_infer.errors import CaseError
from brats_infer.files.cases import Case, is_safe_id
from brats_infer.files.check import check_map
from brats_infer.files.labels import read_labels, read_probabilities


def is_there(case: Case, output: Path, probabilities: Path | None) -> bool:
    """Whether an earlier run has written every file of the case. Later changes of image voxels do not count."""
    labels = output / case.output_name
    return is_whole(labels, case) and (
        probabilities is None or probabilities_are_whole(probabilities / case.output_name, labels, case)
    )


def is_whole(path: Path, case: Case) -> bool:
    """Whether `path` is a label map of the case that meets the contract.

    An empty map does not count: it may be the blank map of a failed case. The grid is compared with that of the first
    readable image.
    """
    if not is_safe_id(case.id) or case.ambiguous or not case.task or not path.is_file():
        return False
    try:
        faults = [finding for finding in check_map(path, case) if not finding.warning]
        return not faults and bool(read_labels(path)[0].any())
    except CaseError:
        return False


def probabilities_are_whole(path: Path, labels: Path, case: Case) -> bool:
    """Whether `path` holds region probabilities on the grid of the case's label map."""
    if not path.is_file() or not case.task:
        return False
    try:
        found, geometry = read_probabilities(path)
        return len(found) == len(case.task.regions) and not geometry.difference(read_labels(labels)[1], labels.name)
    except CaseError:
        return False
