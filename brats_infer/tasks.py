"""All facts of the challenges. A new challenge with the same four contrasts is one new entry in `TASKS`.

Sources: the paper (arXiv 2402.07008, sections 2.5 and 2.6) for thresholds and dust; the challenges' data descriptions
for names, labels and grid; the official 2023 evaluation for the metric settings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from brats_infer.errors import UsageError


@dataclass(frozen=True)
class Modality:
    """One of the four contrasts, and its file names."""

    name: str
    title: str
    suffixes: tuple[str, ...]
    """Endings of the challenges' file stems: the 2023 name first, then that of 2018 to 2021."""
    pattern: str
    """Regular expression of all its names in the field, in lower case, without the separator before them."""


@dataclass(frozen=True)
class Region:
    """A nested tumor region."""

    name: str
    label: int
    """The label of its voxels outside the next inner region."""
    threshold: float
    """Voxels of this probability or more belong to it."""
    dust_mm3: int
    """Components of this volume or less are dust."""


@dataclass(frozen=True)
class LesionMetrics:
    """Settings of the official lesion-wise scores of 2023."""

    dilation_iterations: int
    """18-neighbour dilations of the reference that decide which components are one lesion."""
    ignored_mm3: float = 50.0
    """Reference lesions of this volume or less are left out."""
    penalty_mm: float = 374.0
    """HD95 of a missed or invented lesion."""


class Rule(StrEnum):
    """How the regions' probabilities become labels."""

    INWARDS = "inwards"
    """From the outermost region inwards, until a region's threshold is not reached."""
    INNERMOST = "innermost"
    """The innermost region above its threshold, whatever the regions around it have (nnU-Net with regions)."""
    ARGMAX = "argmax"
    """The most probable of background and labels (nnU-Net without regions)."""


@dataclass(frozen=True)
class Task:
    """One challenge."""

    name: str
    title: str
    id_pattern: str
    """Regular expression of the challenge's case IDs, for the task `auto`."""
    regions: tuple[Region, ...]
    """Outermost first, each inside the previous region; in the order of the network's output channels."""
    connectivity: int
    """6, 18 or 26 neighbours connect a component, for dust and for unsure components."""
    metrics: LesionMetrics
    settings_2026: str | None = None
    """The name of its settings in the package brats-evaluation; None if the package has none."""
    rule: Rule = Rule.INWARDS
    post_processed: bool = True
    """Whether label maps are post-processed unless the settings say otherwise."""

    def region_labels(self, region: Region) -> tuple[int, ...]:
        """Labels that make up a region: its own and those of the regions inside it."""
        return tuple(sorted(r.label for r in self.regions[self.regions.index(region) :]))

    @property
    def labels(self) -> tuple[int, ...]:
        """All foreground labels, ascending."""
        return self.region_labels(self.regions[0])


GRID_SHAPE = (240, 240, 155)
GRID_AFFINE = ((-1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 239.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
"""The common grid of the challenges (SRI24): 1 mm, axes to the left, to the back, up."""

T1N = Modality("t1n", "T1", ("-t1n", "_t1"), r"t1n|t1w?|t1w?[-_ ]?(?:pre|native)")
T1C = Modality("t1c", "T1 with contrast", ("-t1c", "_t1ce"), r"t1c|t1w?[-_ ]?(?:ce|gd|gad|gadolinium|post|contrast)")
T2W = Modality("t2w", "T2", ("-t2w", "_t2"), r"t2w?")
T2F = Modality("t2f", "FLAIR", ("-t2f", "_flair"), r"t2f|(?:t2w?[-_ ]?)?flair")
MODALITIES = (T1N, T1C, T2W, T2F)
"""Of every challenge, in the order of the network's input channels."""

ID_OF_2023 = re.compile(r"BraTS-([A-Z]+(?:-RT)?)(?:-\d+){1,2}", re.IGNORECASE)
ID_UNTIL_2021 = re.compile(r"brats(?:1\d|20|201\d|202[01])_.+", re.IGNORECASE)
ID_OF_COLLECTION = re.compile(r"(?:UPENN-GBM|UCSF-PDGM)-.+", re.IGNORECASE)
"""IDs of collections whose labels are those of the challenges until 2021."""

NCR, ED, ET = 1, 2, 3
ET_2021 = 4
"""The label of ET until 2021. From 2024 on 4 is the resection cavity, or another tissue."""
IMAGE_NAMES_2021 = ("_t1ce", "_flair")
"""Endings of image names that the challenges used until 2021 alone."""
LABEL_NAMES = {NCR: "NCR", ED: "ED", ET: "ET"}
REGIONS = (Region("WT", ED, 0.45, 50), Region("TC", NCR, 0.40, 50), Region("ET", ET, 0.45, 50))

TASKS = {
    task.name: task
    for task in (
        Task(
            name="gli",
            title="adult glioma",
            id_pattern=r"BraTS-GLI-\d{5}-\d{3}|BraTS2021_\d{5}",
            regions=REGIONS,
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=3),
            settings_2026="gli",
        ),
        Task(
            name="ssa",
            title="glioma, Sub-Saharan Africa",
            id_pattern=r"BraTS-SSA-\d{5}-\d{3}",
            regions=REGIONS,
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=3),
        ),
        Task(
            name="men",
            title="meningioma",
            id_pattern=r"BraTS-MEN-\d{5}-\d{3}",
            regions=REGIONS,
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=1),
            settings_2026="MenPre",
        ),
    )
}

OTHER_CHALLENGES = {
    "BraTS-MET": r"BraTS-MET-\d{5}-\d{3}",
    "BraTS-PED": r"BraTS-PED-\d{5}-\d{3}",
    "BraTS-GLI post-treatment": r"BraTS-GLI-\d{5}-1\d{2}",
    "BraTS-GoAT": r"BraTS-GoAT-\d{5}",
    "BraTS-MEN-RT": r"BraTS-MEN-RT-\d{4}-\d",
}
"""{challenge without a member: regular expression of its case IDs}. It wins over the patterns of `TASKS`."""


def patient_of(case_id: str) -> str:
    """The patient of a case: an ID of 2023 ends with the examination's number, a BIDS ID starts with the patient.

    Any other ID is a patient of its own.
    """
    return re.sub(r"^(BraTS-[A-Z]+-\d{5})-\d{3}$|^(sub-[^_]+)_.*$", r"\1\2", case_id)


def task_of_id(case_id: str) -> Task | None:
    """The challenge that a case ID belongs to, or None if the ID tells none."""
    return next((task for task in TASKS.values() if re.fullmatch(task.id_pattern, case_id)), None)


def other_challenge(case_id: str) -> str | None:
    """The challenge without a member that a case ID belongs to, or None."""
    return next((name for name, ids in OTHER_CHALLENGES.items() if re.fullmatch(ids, case_id)), None)


def challenge_of_id(case_id: str) -> str | None:
    """The challenge that an ID names, also one that is not in `TASKS`; None if the ID names none."""
    if found := other_challenge(case_id) or getattr(task_of_id(case_id), "name", None):
        return str(found)
    if of_2023 := ID_OF_2023.fullmatch(case_id):
        return of_2023[1].lower()
    return "gli" if ID_UNTIL_2021.fullmatch(case_id) else None


def of_another_challenge(case_ids: Sequence[str], task_name: str) -> str | None:
    """A warning, in one line, of IDs that name another challenge than the given one; None without any."""
    others = [case_id for case_id in case_ids if challenge_of_id(case_id) not in (None, task_name)]
    if not others:
        return None
    count, first = f"{len(others)} of {len(case_ids)} case IDs", f"{others[0]} ({challenge_of_id(others[0])})"
    return f"--task {task_name}: {count} tell another challenge, the first {first}"


def task_named(name: str) -> Task:
    """The challenge of that name. Raises UsageError for an unknown name."""
    try:
        return TASKS[name]
    except KeyError:
        raise UsageError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}") from None
