"""All facts of the challenges. A new challenge is one new entry in `TASKS`.

Sources: the paper (arXiv 2402.07008, sections 2.5 and 2.6) for thresholds and dust; the challenges' data descriptions
for names, labels and grid; the official evaluations of 2023 and 2024 for the metric settings.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from brats_infer.errors import UsageError
from brats_infer.task import LesionMetrics, Metrics2024, Modality, Region, Region2024, Rule, Task

__all__ = ["LesionMetrics", "Metrics2024", "Modality", "Region", "Region2024", "Rule", "Task"]

T1N = Modality("t1n", "T1", ("-t1n", "_t1"), r"t1n|t1w?|t1w?[-_ ]?(?:pre|native)")
T1C = Modality("t1c", "T1 with contrast", ("-t1c", "_t1ce"), r"t1c|t1w?[-_ ]?(?:ce|gd|gad|gadolinium|post|contrast)")
T2W = Modality("t2w", "T2", ("-t2w", "_t2"), r"t2w?")
T2F = Modality("t2f", "FLAIR", ("-t2f", "_flair"), r"t2f|(?:t2w?[-_ ]?)?flair")
MODALITIES = (T1N, T1C, T2W, T2F)
"""All contrasts, in the order of the network's input channels."""

BRAIN = "brain"
"""The task of members that strip skulls; no challenge."""

GRID_SHAPE = (240, 240, 155)
GRID_AFFINE = ((-1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 239.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
"""The common grid of the challenges (SRI24): 1 mm, axes to the left, to the back, up."""

ID_OF_2023 = re.compile(r"BraTS-([A-Z]+(?:-RT)?)(?:-\d+){1,2}", re.IGNORECASE)
ID_UNTIL_2021 = re.compile(r"brats(?:1\d|20|201\d|202[01])_.+", re.IGNORECASE)
ID_OF_COLLECTION = re.compile(r"(?:UPENN-GBM|UCSF-PDGM)-.+", re.IGNORECASE)
"""IDs of collections whose labels are those of the challenges until 2021."""

NCR, ED, ET = 1, 2, 3
"""The labels of 2023."""
ET_2021 = 4
"""The label of ET until 2021. From 2024 on 4 is the resection cavity, or another tissue."""
IMAGE_NAMES_2021 = ("_t1ce", "_flair")
"""Endings of image names that the challenges used until 2021 alone."""
LABELS_2023 = ("NCR", "ED", "ET")
LABELS_2024 = ("NETC", "SNFH", "ET", "RC")
REGIONS = (
    Region("WT", (NCR, ED, ET), ED, 0.45, 50),
    Region("TC", (NCR, ET), NCR, 0.40, 50),
    Region("ET", (ET,), ET, 0.45, 50),
)
CAVITY = Region("RC", (4,), 4, 0.5, 50)
"""The resection cavity, which lies outside the tumor."""
SAME_MEANING = {"GTV": "TC"}
"""{name of a region: the name that other challenges give a region of the same meaning}"""

GLI_2024 = Metrics2024(
    penalty_mm=337,
    regions=(
        Region2024("WT", (1, 2, 3), steps=3, limit=20),
        Region2024("TC", (1, 3), steps=3, limit=20),
        Region2024("NETC", (1,), steps=5, limit=20, joined_by=("ET", "RC")),
        Region2024("SNFH", (2,), steps=3, limit=20, joined_by=("ET", "RC", "NETC")),
        Region2024("ET", (3,), steps=3, limit=10, joined_by=("NETC", "RC")),
        Region2024("RC", (4,), steps=5, limit=20, joined_by=("ET", "NETC")),
    ),
)
SSA_2024 = Metrics2024(
    penalty_mm=374,
    regions=(
        Region2024("WT", (1, 2, 3), steps=3, limit=50),
        Region2024("TC", (1, 3), steps=3, limit=50),
        Region2024("ET", (3,), steps=3, limit=50, joined_by=("NETC",)),
        Region2024("NETC", (1,), steps=3, limit=50, scored=False),
    ),
)
MET_2024 = Metrics2024(
    penalty_mm=None,
    regions=(
        Region2024("WT", (1, 2, 3), steps=1, limit=2),
        Region2024("TC", (1, 3), steps=1, limit=2),
        Region2024("ET", (3,), steps=1, limit=2, joined_by=("NETC",)),
        Region2024("RC", (4,), steps=1, limit=2),
        Region2024("NETC", (1,), steps=1, limit=2, scored=False),
    ),
)
PED_2024 = Metrics2024(
    penalty_mm=374,
    regions=(
        Region2024("WT", (1, 2, 3, 4), steps=5, limit=10),
        Region2024("TC", (1, 2, 3), steps=5, limit=10),
        Region2024("ET", (1,), steps=5, limit=10),
        Region2024("NETC", (2,), steps=5, limit=10),
        Region2024("CC", (3,), steps=5, limit=10),
        Region2024("ED", (4,), steps=5, limit=10),
    ),
)
MEN_RT_2024 = Metrics2024(
    penalty_mm=None,
    regions=(Region2024("GTV", (1,), steps=1, limit=50),),
    counts_false=False,
    drops_by_mm3=True,
)

TASKS = {
    task.name: task
    for task in (
        Task(
            name="gli",
            title="adult glioma",
            id_pattern=r"BraTS-GLI-\d{5}-(?!1)\d{3}|BraTS2021_\d{5}",
            regions=REGIONS,
            connectivity=26,
            label_names=LABELS_2023,
            modalities=MODALITIES,
            metrics=LesionMetrics(dilation_iterations=3),
            settings_2026="gli",
        ),
        Task(
            name="ssa",
            title="glioma, Sub-Saharan Africa",
            id_pattern=r"BraTS-SSA-\d{5}-\d{3}",
            regions=REGIONS,
            connectivity=26,
            label_names=LABELS_2023,
            modalities=MODALITIES,
            metrics=LesionMetrics(dilation_iterations=3),
            metrics_2024=SSA_2024,
        ),
        Task(
            name="men",
            title="meningioma",
            id_pattern=r"BraTS-MEN-\d{5}-\d{3}",
            regions=REGIONS,
            connectivity=26,
            label_names=LABELS_2023,
            modalities=MODALITIES,
            metrics=LesionMetrics(dilation_iterations=1),
            settings_2026="MenPre",
        ),
        Task(
            name="gli-post",
            title="adult glioma after treatment",
            id_pattern=r"BraTS-GLI-\d{5}-1\d{2}",
            regions=(*REGIONS, CAVITY),
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=3),
            metrics_2024=GLI_2024,
            own_metrics="2024",
            label_names=LABELS_2024,
            modalities=MODALITIES,
        ),
        Task(
            name="met",
            title="metastases",
            id_pattern=r"BraTS-MET-\d{5}-\d{3}",
            regions=(*(replace(region, dust_mm3=2) for region in REGIONS), CAVITY),
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=1, ignored_mm3=2),
            metrics_2024=MET_2024,
            own_metrics="2024",
            label_names=LABELS_2024,
            modalities=MODALITIES,
        ),
        Task(
            name="ped",
            title="pediatric tumors",
            id_pattern=r"BraTS-PED-\d{5}-\d{3}",
            regions=(
                Region("WT", (1, 2, 3, 4), 4, 0.45, 50),
                Region("TC", (1, 2, 3), 2, 0.40, 50),
                Region("CC", (3,), 3, 0.5, 50),
                Region("ET", (1,), 1, 0.45, 50),
            ),
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=3),
            metrics_2024=PED_2024,
            own_metrics="2024",
            label_names=("ET", "NET", "CC", "ED"),
            modalities=MODALITIES,
        ),
        Task(
            name="goat",
            title="generalizability across tumors",
            id_pattern=r"BraTS-GoAT-\d{5}",
            regions=REGIONS,
            connectivity=26,
            label_names=LABELS_2023,
            modalities=MODALITIES,
            metrics=LesionMetrics(dilation_iterations=3),
        ),
        Task(
            name="men-rt",
            title="meningioma before radiotherapy",
            id_pattern=r"BraTS-MEN-RT-\d{4}-\d",
            regions=(Region("GTV", (1,), 1, 0.5, 50),),
            connectivity=26,
            metrics=LesionMetrics(dilation_iterations=1),
            metrics_2024=MEN_RT_2024,
            own_metrics="2024",
            label_names=("GTV",),
            modalities=(T1C,),
        ),
    )
}


def patient_of(case_id: str) -> str:
    """The patient of a case: a challenge's ID ends with the examination's number, a BIDS ID starts with the patient.

    Any other ID is a patient of its own.
    """
    return re.sub(r"^(BraTS-[A-Z]+-\d{5}|BraTS-MEN-RT-\d{4})-\d{1,3}$|^(sub-[^_]+)_.*$", r"\1\2", case_id)


def task_of_id(case_id: str) -> Task | None:
    """The challenge that a case ID belongs to, or None if the ID tells none."""
    return next((task for task in TASKS.values() if re.fullmatch(task.id_pattern, case_id)), None)


def challenge_of_id(case_id: str) -> str | None:
    """The challenge that an ID names, also one that is not in `TASKS`; None if the ID names none."""
    if task := task_of_id(case_id):
        return task.name
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


def meaning_of(region: Region) -> str:
    """The name under which most challenges have this region; regions of one meaning share a network's weights."""
    return SAME_MEANING.get(region.name, region.name)


def task_named(name: str) -> Task:
    """The challenge of that name. Raises UsageError for an unknown name."""
    try:
        return TASKS[name]
    except KeyError:
        raise UsageError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}") from None
