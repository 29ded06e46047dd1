"""The combining step of 2024: its rules one by one, and the search for neighbours against brute force."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_infer.errors import UsageError
from brats_infer.evaluate.metrics2024.joining import joined, touching_lesions
from brats_infer.evaluate.metrics2024.region_scores import scores_2024
from brats_infer.tasks import TASKS

WHOLE = (slice(None), slice(None), slice(None))


def groups(count: int, *touching: list[tuple[int, int]]) -> list[set[int]]:
    """The lesions that are one, the group of the lowest new number first."""
    pairs = [np.array(each, np.intp).reshape(-1, 2) for each in touching]
    new = joined(count, pairs)
    return [set(np.flatnonzero(new == number).tolist()) for number in np.unique(new[1:])]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], [{1}, {2}, {3}]),
        ([(1, 1)], [{1}, {2}, {3}]),
        ([(1, 1), (2, 1)], [{3}, {1, 2}]),
        ([(2, 7), (3, 7)], [{1}, {2, 3}]),
        ([(1, 1), (1, 2), (2, 2)], [{3}, {1}, {2}]),
        ([(1, 1), (2, 1), (2, 2), (3, 2)], [{1, 2}, {3}]),
        ([(3, 1), (1, 1), (2, 2)], [{1, 3}, {2}]),
    ],
)
def test_lesions_join_if_their_smallest_neighbours_are_the_same(pairs, expected) -> None:
    assert groups(3, pairs) == expected


def test_a_second_tissue_joins_what_the_first_has_made() -> None:
    assert groups(4, [(1, 1), (2, 1)], [(2, 1), (3, 1), (4, 2)]) == [{1, 2, 3}, {4}]
    assert groups(4, [(1, 1), (2, 1)], [(2, 1)]) == [{3}, {4}, {1, 2}]


@given(seed=st.integers(0, 10_000))
def test_lesions_touch_by_a_face_or_an_edge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tissue = rng.integers(0, 4, (4, 5, 3)) * (rng.random((4, 5, 3)) < 0.5)
    numbers = {name: (tissue == n + 1) * rng.integers(1, 4, tissue.shape) for n, name in enumerate("abc")}
    found = touching_lesions({name: (WHOLE, each.astype(np.uint16)) for name, each in numbers.items()}, tissue.shape)
    expected: dict[tuple[str, str], set[tuple[int, int]]] = {pair: set() for pair in found}
    for at in np.argwhere(tissue):
        for step in product((-1, 0, 1), repeat=3):
            there = at + step
            if not 0 < sum(map(abs, step)) <= 2 or (there < 0).any() or (there >= tissue.shape).any():
                continue
            one, other = tissue[tuple(at)], tissue[tuple(there)]
            if other and one != other:
                names = "abc"[one - 1], "abc"[other - 1]
                expected[names].add((int(numbers[names[0]][tuple(at)]), int(numbers[names[1]][tuple(there)])))
    assert {names: set(map(tuple, pairs.tolist())) for names, pairs in found.items()} == expected
    assert set(found) == {(a, b) for a, b in product("abc", repeat=2) if a != b}


def test_a_flip_of_both_maps_changes_what_joins() -> None:
    """Three cores in a row with enhancing tumor between them: the middle one joins its first neighbour's other core."""
    labels = np.zeros((3, 3, 58), np.uint8)
    labels[:, :, :8] = labels[:, :, 22:30] = labels[:, :, 44:56] = 1  # NETC, too far apart to merge
    labels[:, :, 8:22] = labels[:, :, 30:44] = 3  # ET
    volumes = []
    for turned in (labels, labels[:, :, ::-1]):
        lesions = scores_2024(turned, turned, TASKS["gli-post"])["NETC"][1]
        volumes.append(sorted(one.volume_mm3 for one in lesions))
    assert volumes == [[108, 144], [72, 180]]


def test_a_task_without_scores_of_2024_is_refused() -> None:
    nothing = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(UsageError, match="the metrics of 2024 have no settings for gli, only for ssa, gli-post, met"):
        scores_2024(nothing, nothing, "gli")
