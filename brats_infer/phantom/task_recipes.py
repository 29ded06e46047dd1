"""Everything in which the phantoms of one challenge differ from those of another: one entry a task in `RECIPES`.

A challenge may have no phantoms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from brats_infer.errors import UsageError
from brats_infer.phantom.anatomy import anatomies_named
from brats_infer.phantom.around.head import heads_named
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.growth import Lesion, grow, plan_lesions
from brats_infer.phantom.kinds.after_treatment import grow_after_treatment, plan_after_treatment
from brats_infer.phantom.kinds.metastases import grow_metastases, plan_metastases
from brats_infer.phantom.kinds.pediatric import closed_brains_named, grow_pediatric, plan_pediatric
from brats_infer.phantom.settings import (
    BLOOD,
    CAVITY,
    CYST,
    LABELS_2023,
    RADIATION,
    RIM,
    T1C,
    Grid,
    Growth,
    Scanner,
    TumorContrast,
)
from brats_infer.tasks import ED, ET, NCR

SRI24 = Grid()


@dataclass(frozen=True)
class Recipe:
    """The phantoms of one challenge."""

    id_format: str
    """The case ID of a number: as a whole, or as `patient` and `scan`."""
    growth: Growth
    scanner: Scanner
    contrast: TumorContrast
    low_grade_contrast: TumorContrast
    """Of the cases whose tumor is of low grade."""
    plan: Callable[[Draw, Tensor, Growth], list[Lesion]] = plan_lesions
    grow: Callable[[Draw, list[Lesion], Tensor, Growth], Tensor] = grow
    labels: Mapping[int, int] = field(default_factory=lambda: LABELS_2023)
    """{part of a tumor: the task's label}"""
    grid: Grid = SRI24
    anatomies: Callable[[str], list[Tensor]] = anatomies_named
    """Reads what --anatomy names: brains, or whole heads."""

    def case_id(self, number: int) -> str:
        """The ID of a case from 0 to 99999."""
        return self.id_format.format(number, patient=number % 10_000, scan=number // 10_000)


HIGH_GRADE: TumorContrast = {
    NCR: ((0.05, 0.75), (0.05, 0.70), (0.60, 1.80), (0.75, 1.80)),
    ED: ((0.35, 0.85), (0.35, 0.80), (0.55, 1.15), (1.05, 1.80)),
    ET: ((0.25, 0.80), (1.05, 1.80), (0.50, 1.30), (0.85, 1.80)),
}
LOW_GRADE: TumorContrast = {
    NCR: ((0.05, 0.50), (0.00, 0.50), (0.60, 1.30), (0.85, 1.70)),
    ED: ((0.50, 0.75), (0.45, 0.75), (0.45, 0.85), (1.10, 1.60)),
    ET: ((0.30, 0.70), (0.85, 1.40), (0.40, 0.90), (0.90, 1.60)),
}
MENINGIOMA: TumorContrast = {
    NCR: ((0.10, 0.60), (0.10, 0.80), (0.20, 1.30), (0.30, 1.20)),
    ED: ((0.35, 0.80), (0.35, 0.80), (0.60, 1.20), (1.05, 1.80)),
    ET: ((0.35, 0.75), (1.10, 2.20), (0.35, 0.95), (0.60, 1.40)),
}
TREATED: TumorContrast = {
    CAVITY: ((0.00, 0.22), (0.00, 0.25), (1.15, 1.55), (0.00, 0.25)),
    BLOOD: ((0.95, 1.50), (0.95, 1.60), (0.30, 1.30), (0.50, 1.50)),
    RADIATION: ((0.60, 0.85), (0.58, 0.82), (0.45, 0.80), (0.98, 1.40)),
    RIM: ((0.50, 0.95), (0.95, 1.35), (0.50, 1.00), (0.95, 1.50)),
}
METASTASIS: TumorContrast = {
    NCR: ((0.05, 0.70), (0.05, 0.65), (0.50, 1.60), (0.40, 1.60)),
    ED: ((0.40, 0.80), (0.38, 0.78), (0.60, 1.15), (1.10, 1.80)),
    ET: ((0.30, 0.85), (1.15, 2.00), (0.40, 1.10), (0.70, 1.50)),
    **TREATED,
}
PEDIATRIC: TumorContrast = {
    NCR: ((0.15, 0.60), (0.15, 0.65), (0.70, 1.30), (1.00, 1.70)),
    ED: ((0.45, 0.75), (0.45, 0.75), (0.60, 1.00), (1.05, 1.50)),
    ET: ((0.30, 0.70), (1.00, 1.75), (0.60, 1.20), (0.85, 1.50)),
    CYST: ((0.00, 0.30), (0.00, 0.33), (1.20, 1.70), (0.00, 0.80)),
}
AFTER_TREATMENT = {CAVITY: 4, BLOOD: 4, RADIATION: ED, RIM: ED}
"""{part: label}"""
MNI_AFFINE = ((-1.0, 0.0, 0.0, 90.0), (0.0, 1.0, 0.0, -126.0), (0.0, 0.0, 1.0, -72.0), (0.0, 0.0, 0.0, 1.0))
GOOD_SCANNER = Scanner(thick_share=0.3, slice_mm=(1.5, 5), noise=(0.6, 1.4))
POOR_SCANNER = Scanner(thick_share=0.9, slice_mm=(4, 6), noise=(1.3, 2.5))
PLANNING_SCANNER = Scanner(thick_share=0.3, slice_mm=(1.5, 3), noise=(0.6, 1.4), channels=(T1C,), air_share=0.5)

RECIPES = {
    "gli": Recipe(
        id_format="BraTS-GLI-{:05d}-000",
        growth=Growth(extra_axial=False, radius_mm=(10.0, 34.0), low_grade_share=0.3),
        scanner=GOOD_SCANNER,
        contrast=HIGH_GRADE,
        low_grade_contrast=LOW_GRADE,
    ),
    "ssa": Recipe(
        id_format="BraTS-SSA-{:05d}-000",
        growth=Growth(extra_axial=False, radius_mm=(15.0, 36.0)),
        scanner=POOR_SCANNER,
        contrast=HIGH_GRADE,
        low_grade_contrast=LOW_GRADE,
    ),
    "men": Recipe(
        id_format="BraTS-MEN-{:05d}-000",
        growth=Growth(extra_axial=True, radius_mm=(6.0, 27.0)),
        scanner=GOOD_SCANNER,
        contrast=MENINGIOMA,
        low_grade_contrast=MENINGIOMA,
    ),
    "gli-post": Recipe(
        id_format="BraTS-GLI-{:05d}-100",
        growth=Growth(extra_axial=False, radius_mm=(10.0, 30.0), low_grade_share=0.15),
        scanner=GOOD_SCANNER,
        contrast={**HIGH_GRADE, **TREATED},
        low_grade_contrast={**LOW_GRADE, **TREATED},
        plan=plan_after_treatment,
        grow=grow_after_treatment,
        labels={**LABELS_2023, **AFTER_TREATMENT},
        grid=Grid((182, 218, 182), (MNI_AFFINE, MNI_AFFINE), max_shape=(180, 216, 170)),
    ),
    "met": Recipe(
        id_format="BraTS-MET-{:05d}-000",
        growth=Growth(extra_axial=False, radius_mm=(1.0, 15.0)),
        scanner=GOOD_SCANNER,
        contrast=METASTASIS,
        low_grade_contrast=METASTASIS,
        plan=plan_metastases,
        grow=grow_metastases,
        labels={**LABELS_2023, **AFTER_TREATMENT},
    ),
    "ped": Recipe(
        id_format="BraTS-PED-{:05d}-000",
        growth=Growth(extra_axial=False, radius_mm=(10.0, 25.0)),
        scanner=GOOD_SCANNER,
        contrast=PEDIATRIC,
        low_grade_contrast=PEDIATRIC,
        plan=plan_pediatric,
        grow=grow_pediatric,
        labels={ET: 1, NCR: 2, CYST: 3, ED: 4},
        anatomies=closed_brains_named,
    ),
    "goat": Recipe(
        id_format="BraTS-GoAT-{:05d}",
        growth=Growth(extra_axial=False, radius_mm=(8.0, 34.0), low_grade_share=0.2),
        scanner=GOOD_SCANNER,
        contrast=HIGH_GRADE,
        low_grade_contrast=LOW_GRADE,
    ),
    "men-rt": Recipe(
        id_format="BraTS-MEN-RT-{patient:04d}-{scan}",
        growth=Growth(extra_axial=True, radius_mm=(6.0, 27.0)),
        scanner=PLANNING_SCANNER,
        contrast=MENINGIOMA,
        low_grade_contrast=MENINGIOMA,
        labels={NCR: 1, ET: 1},
        grid=Grid(max_shape=(230, 270, 230), native_mm=((0.5, 1.0), (1.0, 3.0))),
        anatomies=heads_named,
    ),
}
"""By the name of the task."""


def recipe_of(task: str) -> Recipe:
    """The phantoms of a task. Raises UsageError if it has none."""
    try:
        return RECIPES[task]
    except KeyError:
        raise UsageError(f"there are no phantoms of {task}: choose one of {', '.join(RECIPES)}") from None
