"""The types of a phantom's settings: the parts of a tumor, their contrasts, growth, scanner, grid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from brats_infer.tasks import ED, ET, GRID_AFFINE, GRID_SHAPE, NCR

T1N, T1C, T2W, T2F = range(4)
"""The channels of a phantom's images, in the order of `brats_infer.tasks.MODALITIES`."""

CAVITY, BLOOD, CYST, RADIATION, RIM = range(4, 9)
"""Parts of a tumor beside NCR, ED and ET: resection cavity, blood in it, cyst, radiation change, cavity's rim."""
WATERY = (CAVITY, CYST)
"""Parts without texture of their own."""
EDEMATOUS = (ED, RADIATION)
"""Parts in which the tissue shows through."""
N_PARTS = RIM + 1

Range = tuple[float, float]
Sides = tuple[int, int, int]
Affine = tuple[tuple[float, ...], ...]
TumorContrast = Mapping[int, tuple[Range, Range, Range, Range]]
"""{part: the range of its mean in t1n, t1c, t2w and t2f}, in the units of `contrast.py`."""

LABELS_2023: Mapping[int, int] = {NCR: NCR, ED: ED, ET: ET}
"""{part: its label}. A part that a task has no label for is background."""
OTHER_AFFINE: Affine = ((1.0, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
"""Real cases of ssa have it."""


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
    channels: tuple[int, ...] = (T1N, T1C, T2W, T2F)
    """The contrasts that are acquired."""
    air_share: float = 0.0
    """Share of the cases whose air holds noise instead of 0."""


@dataclass(frozen=True)
class Grid:
    """The voxels on which the images are sent."""

    shape: Sides = GRID_SHAPE
    affines: tuple[Affine, Affine] = (OTHER_AFFINE, GRID_AFFINE)
    """Each of half of the cases."""
    max_shape: Sides = (220, 235, 155)
    """Voxels of 1 mm; larger anatomies are squeezed into it."""
    native_mm: tuple[Range, Range] | None = None
    """Edges of a voxel in the plane, thickness of a slice; the images end at the head. None: 1 mm and `shape`."""

    def with_shape(self, shape: Sides | None) -> "Grid":
        """The same affines for another shape; the same grid for None."""
        return self if shape is None else Grid(shape, self.affines, self.max_shape, self.native_mm)


def label_table(labels: Mapping[int, int]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """(parts,): the label of each part."""
    table = np.zeros(N_PARTS, np.uint8)
    for part, label in labels.items():
        table[part] = label
    return table
