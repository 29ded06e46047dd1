"""Cases with label maps: which there are in a folder, and why a case is left out."""

import re
from collections.abc import Sequence
from pathlib import Path

from brats_infer.evaluate.pairs import REFERENCE_ENDINGS, find_labels
from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases
from brats_infer.files.search.names import stem_of
from brats_infer.files.search.tree import image_inside

LABEL_WORD = re.compile(r"seg|label|mask|truth|(?<![a-z])gt(?![a-z])")
Labelled = Sequence[tuple[Case, Path]]
"""Cases, each with its label map."""


def labelled_cases(folder: Path, task_name: str) -> list[tuple[Case, Path]]:
    """The cases with a label map, each with that map, in the order of their IDs.

    Raises UsageError for a case with two label maps, NoCasesError for a folder without cases.
    """
    cases = find_cases(folder, task_name)
    references = references_of(folder, cases)
    return [(case, references[case.id]) for case in cases if case.id in references]


def references_of(folder: Path, cases: Sequence[Case]) -> dict[str, Path]:
    """{ID: label map} of the cases that have one, also in a folder called like it (Kaggle). Raises UsageError."""
    found = find_labels(folder, REFERENCE_ENDINGS)
    for case in cases:
        for ending in REFERENCE_ENDINGS if case.id not in found and case.paths else ():
            if inside := image_inside(_folder_of(case) / f"{case.id}{ending}"):
                found[case.id] = inside
    return found


def without_labels(case: Case) -> str:
    """Why a case without a label map is left out, and which images beside it may be that map."""
    beside: list[str] = []
    if case.paths:
        taken = {path.name for path in (*case.paths.values(), *(path.parent for path in case.paths.values()))}
        for name in sorted(path.name for path in _folder_of(case).iterdir()):
            stem = (stem_of(name) or "").lower()
            is_label = LABEL_WORD.search(stem) and not name.lower().endswith(REFERENCE_ENDINGS)
            beside += [name] if stem and (is_label or name.startswith(case.id)) and name not in taken else []
    hint = f" ({', '.join(beside[:3])} lies beside it: rename it if it is that map)" if beside else ""
    return f"{case.id}: has no label map {case.id}-seg.nii.gz{hint}"


def _folder_of(case: Case) -> Path:
    """The folder of a case's images, outside of folders called like an image."""
    folder = next(iter(case.paths.values())).parent
    return folder if stem_of(folder.name) is None else folder.parent


def labelled_ids(folder: Path, task_name: str, skip: Sequence[str]) -> list[str]:
    """The IDs of the cases that `load_split` takes, ascending. Raises UsageError as it does."""
    return [case.id for case, _ in labelled_cases(folder, task_name) if case.id not in skip]
