"""Everything in which the phantoms of one challenge differ from those of another: one entry a task in `RECIPES`.

A challenge may have no phantoms.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from brats_infer.errors import UsageError
from brats_infer.tasks import ED, ET, NCR

T1N, T1C, T2W, T2F = range(4)
"""The channels of a phantom's images, in the order of `brats_infer.tasks.MODALITIES`."""

Range = tuple[float, float]
TumorContrast = Mapping[int, tuple[Range, Range, Range, Range]]
"""{label: the range of its mean in t1n, t1c, t2w and t2f}, in the units of `contrast.py`."""


@dataclass(frozen=True)
class Growth:
    """Where a tumor starts and how large it becomes."""

    extra_axial: bool
    """True: it starts at the brain's surface and also fills fluid. False: it starts inside of the brain's tissue."""
    radius_mm: Range
    """Of a ball of the core's volume."""
    low_grade_share: float = 0.0
    """Share of the cases with one tumor of low grade."""


@dataclass(frozen=True)
class Scanner:
    """How well the images are acquired."""

    thick_share: float
    """Share of the cases with thick slices."""
    slice_mm: Range
    """Thickness of thick slices."""
    noise: Range
    """Factor on the strength of noise and on the frequency of motion."""


@dataclass(frozen=True)
class Recipe:
    """The phantoms of one challenge."""

    id_format: str
    """The case ID of a number."""
    growth: Growth
    scanner: Scanner
    contrast: TumorContrast
    low_grade_contrast: TumorContrast
    """Of the cases whose tumor is of low grade."""


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
GOOD_SCANNER = Scanner(thick_share=0.3, slice_mm=(1.5, 5), noise=(0.6, 1.4))
POOR_SCANNER = Scanner(thick_share=0.9, slice_mm=(4, 6), noise=(1.3, 2.5))

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
}
"""By the name of the task."""


def recipe_of(task: str) -> Recipe:
    """The phantoms of a task. Raises UsageError if it has none."""
    try:
        return RECIPES[task]
    except KeyError:
        raise UsageError(f"there are no phantoms of {task}: choose one of {', '.join(RECIPES)}") from None
