"""The places of a series' slices in the patient: their order, their spacing, and what lacks between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_TURN = 0.02  # between directions of slices that count as parallel, as a difference of unit vectors
UNEVEN = 0.1  # share of the slices' distance
SAME_PLACE = 0.05  # share of the slices' distance, and 0.01 mm at least
SAME_PLACE_MM = 0.01
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Plane:
    """The place of one slice, in DICOM's coordinates: mm to the left, to the back, up (LPS)."""

    position: Vector
    """Centre of the first pixel (ImagePositionPatient)."""
    along_row: Vector
    """Direction from one column to the next, of length 1."""
    along_column: Vector
    """Direction from one row to the next, of length 1."""
    spacing: tuple[float, float]
    """mm between rows, between columns (PixelSpacing)."""

    @property
    def normal(self) -> NDArray[np.float64]:
        """(3,) of length 1."""
        normal = np.cross(self.along_row, self.along_column)
        return np.asarray(normal / max(float(np.linalg.norm(normal)), 1e-6), np.float64)

    @property
    def pixel_to_ras(self) -> NDArray[np.float64]:
        """(3, 3): its product with (column, row, 1) is the pixel's centre in mm, in NIfTI's coordinates (RAS)."""
        column_step = np.asarray(self.along_row) * self.spacing[1]
        row_step = np.asarray(self.along_column) * self.spacing[0]
        return np.asarray(LPS_TO_RAS @ np.column_stack([column_step, row_step, self.position]), np.float64)


@dataclass(frozen=True)
class Stack:
    """Parallel slices as one volume."""

    order: tuple[int, ...] = ()
    """Indices of the slices along their normal."""
    step_mm: float = 0.0
    """Distance of neighbours."""
    problem: str | None = None
    """Why the slices are no volume."""
    gap: str | None = None
    """Which slices the volume lacks."""

    @property
    def coverage_mm(self) -> float:
        """Extent along the normal."""
        return len(self.order) * self.step_mm


def stack(planes: Sequence[Plane | None]) -> Stack:
    """The volume that slices make; None is a slice of unknown place."""
    known = [plane for plane in planes if plane is not None]
    everything = tuple(range(len(planes)))
    if len(known) < len(planes):
        return Stack(everything, problem="slices of unknown place")
    if len(known) < 2:
        return Stack(everything, problem="a single slice")
    if not all(_is_parallel(plane, known[0]) for plane in known):
        return Stack(everything, problem="slices in several directions")
    heights = np.array([known[0].normal @ plane.position for plane in known])
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    step = float(np.median(steps))
    if steps.min() <= max(SAME_PLACE * step, SAME_PLACE_MM):
        return Stack(everything, step, problem="several images at one place")
    return Stack(tuple(int(i) for i in order), step, gap=_gap(steps, step))


def _is_parallel(one: Plane, other: Plane) -> bool:
    pairs = ((one.along_row, other.along_row), (one.along_column, other.along_column), (one.spacing, other.spacing))
    return all(float(np.abs(np.subtract(a, b)).max()) <= MAX_TURN for a, b in pairs)


def _gap(steps: NDArray[np.float64], step: float) -> str | None:
    """What lacks between slices that are `steps` mm apart, as text; None for even steps."""
    worst = int(np.abs(steps - step).argmax())
    if abs(steps[worst] - step) <= UNEVEN * step:
        return None
    lacking = sum(round(float(s) / step) - 1 for s in steps if s > 1.5 * step)
    between = f"{steps[worst]:.3g} mm between slices {worst + 1} and {worst + 2}, {step:.3g} mm elsewhere"
    return f"lacks {lacking} slices: {between}" if lacking else f"is unevenly spaced: {between}"
