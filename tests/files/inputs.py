"""Input folders of empty files, and what is found in them."""

from pathlib import Path

from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases

ID = "BraTS-GLI-00001-000"
OTHER = "BraTS-GLI-00002-000"
MODALITIES = ["t1n", "t1c", "t2w", "t2f"]


def only(cases: list[Case]) -> Case:
    (case,) = cases
    return case


def problems(folder: Path, task: str = "auto") -> dict[str, str | None]:
    return {case.id: case.problem for case in find_cases(folder, task)}


def flatten(folder: Path) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.rename(folder / path.name)
