"""Thresholds from the outside in, against the paper's rule written out voxel by voxel."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from brats_infer.labelling.label_map import SLAB, labels_from_probabilities
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.tasks import TASKS, Task

GLI = TASKS["gli"]
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
EDGES = [0.0, 1.0, *(float(np.nextafter(np.float32(t), np.float32(up))) for t in (0.40, 0.45) for up in (0, 1))]
PROBABILITIES = st.one_of(
    st.floats(0, 1, width=32), st.sampled_from([*EDGES, float(np.float32(0.40)), float(np.float32(0.45))])
)


def labelled(probabilities: NDArray[np.float32], task: Task = GLI) -> NDArray[np.uint8]:
    return labels_from_probabilities(torch.from_numpy(np.ascontiguousarray(probabilities)), task).numpy()


def by_the_paper(wt: np.float32, tc: np.float32, et: np.float32) -> int:
    """Section 2.5, as it is written there."""
    if wt < np.float32(0.45):
        return 0
    if tc < np.float32(0.4):
        return 2
    if et < np.float32(0.45):
        return 1
    return 3


@pytest.mark.parametrize("task", [TASKS[name] for name in ("gli", "ssa", "men")], ids=lambda task: task.name)
@given(data=st.data())
def test_labels_follow_the_papers_rule_at_every_voxel(task, data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    probabilities = data.draw(hnp.arrays(np.float32, (3, *shape), elements=PROBABILITIES))
    labels = labelled(probabilities, task)
    assert labels.dtype == np.uint8
    assert labels.shape == shape
    for at in np.ndindex(*shape):
        assert labels[at] == by_the_paper(*probabilities[(slice(None), *at)])


@pytest.mark.parametrize(
    ("wt", "tc", "et", "label"),
    [
        (0.45, 0.40, 0.45, 3),
        (0.44, 0.99, 0.99, 0),
        (0.99, 0.39, 0.99, 2),
        (0.99, 0.40, 0.44, 1),
        (0.45, 0.00, 0.00, 2),
        (0.00, 0.00, 0.00, 0),
    ],
)
def test_a_threshold_itself_counts_as_reached(wt: float, tc: float, et: float, label: int) -> None:
    probabilities = np.array([wt, tc, et], np.float32).reshape(3, 1, 1, 1)
    assert labelled(probabilities).item() == label


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 3)))
def test_labels_to_regions_and_back_is_the_same(labels: np.ndarray) -> None:
    regions = regions_from_labels(labels, GLI)
    assert regions.dtype == np.bool_
    assert np.array_equal(labelled(regions.astype(np.float32)), labels)


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 3)))
def test_regions_are_the_challenges_sets_and_nested(labels: np.ndarray) -> None:
    wt, tc, et = regions_from_labels(labels, GLI)
    assert np.array_equal(wt, labels > 0)
    assert np.array_equal(tc, (labels == 1) | (labels == 3))
    assert np.array_equal(et, labels == 3)
    assert not (tc & ~wt).any()
    assert not (et & ~tc).any()


@given(
    hnp.arrays(np.float32, (3, 3, 4, 2), elements=PROBABILITIES), st.permutations(range(3)), st.sets(st.integers(1, 3))
)
def test_labels_turn_with_the_volume(probabilities: np.ndarray, order: list[int], flips: set[int]) -> None:
    turned = np.flip(probabilities, tuple(flips)).transpose(0, *(1 + axis for axis in order))
    expected = np.flip(labelled(probabilities), tuple(axis - 1 for axis in flips)).transpose(order)
    assert np.array_equal(labelled(turned), expected)


def test_a_long_volume_is_labelled_as_its_parts_are() -> None:
    probabilities = np.random.default_rng(0).random((3, 2 * SLAB + 5, 3, 4), np.float32)
    for step in (SLAB // 2, SLAB + 1):
        parts = [labelled(probabilities[:, start : start + step]) for start in range(0, probabilities.shape[1], step)]
        assert np.array_equal(labelled(probabilities), np.concatenate(parts))


@pytest.mark.parametrize("x", [1, SLAB + 1, 2 * SLAB])
@pytest.mark.parametrize("region", range(3))
def test_one_nan_is_told_and_never_becomes_background(region: int, x: int) -> None:
    probabilities = np.ones((3, 2 * SLAB + 1, 4, 4), np.float32)
    probabilities[region, x, 2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        labelled(probabilities)


def test_a_wrong_number_of_regions_is_told() -> None:
    with pytest.raises(ValueError, match="zip"):
        labelled(np.ones((2, 3, 3, 3), np.float32))
