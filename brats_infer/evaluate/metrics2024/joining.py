"""Lesions of one tissue that touch the same lesion of another tissue become one, as the programs of 2024 do it.

The result depends on the raster order of the lesions, and joining is not transitive: the official programs give each
lesion the number of its first neighbour.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.lesionwise import Labels
from brats_infer.image.voxels import Box

Pairs = NDArray[np.intp]
"""(N, 2): numbers of a lesion of one tissue and of a lesion of another tissue that it touches."""
HALF_OF_18 = tuple(
    step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0) and sum(axis != 0 for axis in step) <= 2
)
"""One of each two opposite neighbours that share a face or an edge."""


def joined(count: int, touching: Sequence[Pairs]) -> NDArray[np.intp]:
    """(1 + count,): the new numbers of lesions 1 to `count`, after each of some other tissues has joined them.

    `touching` holds the pairs with each of these tissues, in order. A tissue with one pair or none joins nothing.
    Otherwise each lesion takes the number of its smallest neighbour there, behind all numbers so far. Neighbours are
    numbered in the order in which they appear in the sorted pairs.
    """
    current = np.arange(count + 1)
    for pairs in touching:
        found = np.unique(np.column_stack((current[pairs[:, 0]], pairs[:, 1])), axis=0)
        if len(found) < 2:
            continue
        new = {int(other): int(current.max()) + 1 + place for place, other in enumerate(dict.fromkeys(found[:, 1]))}
        first = {int(own): new[int(other)] for own, other in reversed(found.tolist())}
        current = np.array([first.get(int(number), number) for number in current])
    return current


def touching_lesions(tissues: Mapping[str, tuple[Box, Labels]], shape: tuple[int, ...]) -> dict[tuple[str, str], Pairs]:
    """{(tissue, other tissue): pairs of lesions that share a face or an edge of their voxels}, each pair once.

    `tissues` are disjoint: {name: (its box in a volume of that shape, the numbers of its lesions in the box)}.
    """
    names = list(tissues)
    most = 1 + max((int(numbers.max(initial=0)) for _, numbers in tissues.values()), default=0)
    codes = np.zeros([side + 2 for side in shape], np.int32)
    tissue_of = np.zeros(codes.shape, np.uint8)  # 0 is background
    for index, (box, numbers) in enumerate(tissues.values()):
        mask = numbers != 0
        np.copyto(codes[1:-1, 1:-1, 1:-1][box], numbers + np.int32(index * most), where=mask)
        np.copyto(tissue_of[1:-1, 1:-1, 1:-1][box], np.uint8(index + 1), where=mask)
    kind, code = tissue_of.ravel(), codes.ravel()
    at = np.flatnonzero(kind)
    own = kind[at]
    strides = np.array((codes.shape[1] * codes.shape[2], codes.shape[2], 1))
    found = []
    for step in HALF_OF_18:
        there = at + int(strides @ np.array(step))
        other = kind[there]
        apart = np.flatnonzero((other != 0) & (other != own))
        found.append(np.unique(code[at[apart]] * np.int64(most * len(names)) + code[there[apart]]))
    one, other = np.divmod(np.unique(np.concatenate(found)), most * len(names))
    pairs = np.unique(np.concatenate((np.column_stack((one, other)), np.column_stack((other, one)))), axis=0)
    tissue, number = np.divmod(pairs, most)
    return {
        (names[a], names[b]): number[(tissue[:, 0] == a) & (tissue[:, 1] == b)]
        for a, b in product(range(len(names)), repeat=2)
        if a != b
    }
