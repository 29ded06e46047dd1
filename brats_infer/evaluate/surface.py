"""The 95th percentile Hausdorff distance between surfaces whose elements are weighted by area.

The definition is DeepMind's (Nikolov et al. 2018, arXiv 1809.04430; github.com/google-deepmind/surface-distance), which
the challenges use. A surface element sits at every corner of the voxel grid whose 2x2x2 voxels are not all equal. Its
code says which of the eight belong to the mask: one bit each; the voxel of the lowest indices is the highest bit.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from brats_infer.image.voxels import bounding_box

Spacing = tuple[float, float, float]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

PERCENT = 95
CORNERS = tuple(product((0, 1), repeat=3))
"""The voxels of a 2x2x2 block, the highest bit of the code first."""
MOST_TRIANGLES = 4
LEAF = 64
"""Elements in a leaf of the k-d tree: larger than usual, as building it takes longer than asking it."""
MARGIN = 2
"""Voxels around an element that are searched one by one before a k-d tree is."""


@dataclass(frozen=True)
class Surface:
    """The surface elements of labelled components, by position. No two components touch (26 neighbours)."""

    corners: NDArray[np.intp]
    """(N,), ascending: the flat index of each element in `grid`, in C order."""
    grid: tuple[int, ...]
    """The number of voxel corners along each axis, with `MARGIN` more on each side."""
    spacing: Spacing
    """Edge lengths of a voxel, mm."""
    areas: Floats
    """(N,), in mm2."""
    owners: NDArray[np.intp]
    """(N,): the component of each element."""

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def points(self) -> Floats:
        """(N, 3), in mm."""
        indices: NDArray[np.intp] = np.column_stack(np.unravel_index(self.corners, self.grid))
        points: Floats = indices * np.array(self.spacing)
        return points

    def where(self, chosen: Mask | NDArray[np.intp]) -> "Surface":
        """Some of the elements, chosen by a mask (N,) or by ascending indices."""
        return replace(self, corners=self.corners[chosen], areas=self.areas[chosen], owners=self.owners[chosen])


def hd95(prediction: Mask, reference: Mask, spacing: Spacing = (1.0, 1.0, 1.0)) -> float:
    """The larger of the two 95th percentiles of the distances from one surface to the other, in mm.

    Masks (X, Y, Z), spacing in mm. Two empty masks: 0. One empty mask: infinity.
    """
    box = bounding_box(prediction | reference)
    predicted, true = (surface_of(mask[box].astype(np.uint8), spacing) for mask in (prediction, reference))
    if len(predicted) == 0 or len(true) == 0:
        return 0.0 if len(predicted) == len(true) else float("inf")
    return max(
        percentile(distances_to(predicted, true)[0], predicted.areas),
        percentile(distances_to(true, predicted)[0], true.areas),
    )


def surface_of(labels: NDArray[np.unsignedinteger], spacing: Spacing) -> Surface:
    """The surface elements of components labelled 1, 2, … in (X, Y, Z)."""
    padded = np.pad(labels, MARGIN + 1)
    codes = neighbour_codes(padded != 0)
    corners = np.flatnonzero(codes + np.uint8(1) > 1)  # neither 0 nor 255
    owners = np.maximum(padded[:, :, :-1], padded[:, :, 1:])
    owners = np.maximum(owners[:, :-1], owners[:, 1:])
    owners = np.maximum(owners[:-1], owners[1:]).ravel()[corners].astype(np.intp)
    return Surface(corners, codes.shape, spacing, element_areas(spacing)[codes.ravel()[corners]], owners)


def neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """(X, Y, Z) -> (X-1, Y-1, Z-1): the code of each 2x2x2 block."""
    codes = mask.astype(np.uint8)
    codes = np.uint8(2) * codes[:, :, :-1] + codes[:, :, 1:]
    codes = np.uint8(4) * codes[:, :-1] + codes[:, 1:]
    return np.uint8(16) * codes[:-1] + codes[1:]


def distances_to(source: Surface, target: Surface) -> tuple[Floats, NDArray[np.intp]]:
    """For each element of `source`: the distance in mm to the nearest of `target` (not empty), and its index.

    Both lie on one grid. Most elements have a neighbour within a few corners, which are searched first. A k-d tree
    finds the others.
    """
    occupied = np.zeros(int(np.prod(target.grid)), bool)
    occupied[target.corners] = True
    distances, found = np.zeros(len(source)), np.zeros(len(source), np.intp)
    left, corners = np.arange(len(source)), source.corners
    for distance, step in _steps(target.grid, target.spacing):
        reached = corners + step
        hit = occupied[reached]
        if hit.any():
            there = left[hit]
            distances[there], found[there] = distance, reached[hit]
            left, corners = left[~hit], corners[~hit]
    places = np.zeros(len(occupied), np.intp)
    places[target.corners] = np.arange(len(target))
    nearest = places[found]
    if len(left):
        tree = cKDTree(target.points, leafsize=LEAF, balanced_tree=False, compact_nodes=False)
        far = source.where(left)
        distances[left], nearest[left] = tree.query(far.points)
    return distances, nearest


def _steps(grid: tuple[int, ...], spacing: Spacing) -> list[tuple[float, int]]:
    """(length in mm, change of the flat index) of every step up to `MARGIN` times the shortest edge, shortest first."""
    steps = np.array(list(product(range(-MARGIN, MARGIN + 1), repeat=3)))
    lengths = np.linalg.norm(steps * np.array(spacing), axis=1)
    strides = np.array((grid[1] * grid[2], grid[2], 1))
    short = sorted(zip(lengths.tolist(), (steps @ strides).tolist(), strict=True))
    return [(length, step) for length, step in short if length <= MARGIN * min(spacing)]


def percentile(distances: Floats, areas: Floats) -> float:
    """The smallest distance (N,) at or below which `PERCENT` of the area (N,) lies; N > 0.

    The order of sorting and summing is DeepMind's: rounding decides where a share falls on the percentile.
    """
    order = np.lexsort((areas, distances))
    shares = np.cumsum(areas[order]) / np.sum(areas[order])
    reached = min(int(np.searchsorted(shares, PERCENT / 100)), len(order) - 1)
    return float(distances[order[reached]])


@cache
def element_areas(spacing: Spacing) -> Floats:
    """(256,): the area in mm2 of the surface element of each code, on a grid of that spacing in mm."""
    x, y, z = spacing
    areas: Floats = np.linalg.norm(_element_normals() * np.array((y * z, x * z, x * y)), axis=-1).sum(axis=-1)
    return areas


@cache
def _element_normals() -> Floats:
    """(256, triangles, 3): the normals of each code's triangles on a grid of 1 mm, padded with zeros.

    A normal is as long as its triangle's area. The surface separates each group of adjoining corners from the rest of
    the block: a polygon through the middles of the edges that leave the group. Groups are those of the side with fewer
    corners, so a code and its complement have the same surface.
    """
    normals = np.zeros((256, MOST_TRIANGLES, 3))
    for code in range(256):
        inside = {corner for bit, corner in enumerate(CORNERS) if code & 128 >> bit}
        smaller = inside if len(inside) <= 4 else set(CORNERS) - inside
        triangles = [normal for group in _groups(smaller) for normal in _triangles(_polygon(group))]
        normals[code, : len(triangles)] = np.reshape(triangles, (-1, 3))
    return normals


def _groups(corners: set[tuple[int, ...]]) -> list[set[tuple[int, ...]]]:
    """Splits corners of a cube into groups that adjoin along its edges."""
    left, groups = set(corners), []
    while left:
        group, reached = set(), {left.pop()}
        while reached:
            group |= reached
            left -= reached
            reached = {corner for corner in left for member in group if np.abs(np.subtract(corner, member)).sum() == 1}
        groups.append(group)
    return groups


def _polygon(group: set[tuple[int, ...]]) -> Floats:
    """(3 to 6, 3): the middles of the cube's edges that leave the group, in order around it."""
    pairs = product(sorted(group), sorted(set(CORNERS) - group))
    middles = [np.add(a, b) / 2 for a, b in pairs if np.abs(np.subtract(a, b)).sum() == 1]
    ring = [middles.pop()]
    while middles:  # neighbours on the ring lie on one face of the cube
        on_one_face = [((middle == ring[-1]) & (middle != 0.5)).any() for middle in middles]
        ring.append(middles.pop(on_one_face.index(True)))
    return np.array(ring)


def _triangles(polygon: Floats) -> list[Floats]:
    """The normals of the triangles that fill a polygon (N, 3), of the triangulation with the largest area.

    Five and six middles need not lie in one plane, so the triangulation matters. The largest area reproduces the table
    of the definition at any spacing.
    """
    normals = {
        (a, b, c): np.cross(polygon[b] - polygon[a], polygon[c] - polygon[a]) / 2
        for a, b, c in combinations(range(len(polygon)), 3)
    }

    def fill(first: int, last: int) -> list[Floats]:
        ways = [[*fill(first, apex), *fill(apex, last), normals[first, apex, last]] for apex in range(first + 1, last)]
        return max(ways, key=lambda way: sum(float(np.linalg.norm(normal)) for normal in way), default=[])

    return fill(0, len(polygon) - 1)
