"""The types of scores: of one case and of a cohort."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from brats_infer.evaluate.lesionwise import LesionScores

METRICS = ("2023", "2024", "2026")

Table = dict[str, dict[str, float]]
"""{region: {column: number}}"""
LesionTable = dict[str, tuple[LesionScores, ...]]
"""{region: its lesions}"""


@dataclass(frozen=True)
class CohortScores:
    """The scores of a cohort."""

    task: str
    metrics: str
    """One of `METRICS`."""
    cases: dict[str, Table]
    """By case ID, ascending. A missing prediction has the worst scores."""
    mean: Table
    """The mean over all cases, as the challenge forms it."""
    missing: tuple[str, ...]
    """IDs of the references without a prediction, ascending."""
    lesions: dict[str, LesionTable] = field(default_factory=dict)
    """By case ID, for the metrics of 2023 and 2024."""
    warnings: tuple[str, ...] = ()
    """Doubts about the IDs and the files, each a line that names a file or a case."""


def mean_of(tables: Iterable[Table]) -> Table:
    """The plain mean over the cases, of every column of each region."""
    tables = list(tables)
    return {
        region: {column: float(np.mean([table[region][column] for table in tables])) for column in columns}
        for region, columns in tables[0].items()
    }
