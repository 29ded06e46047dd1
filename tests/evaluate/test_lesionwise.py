"""The lesion-wise scores against the plain oracle, and what must hold whatever the maps."""

from dataclasses import asdict, replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.evaluate import RegionScores, lesionwise_scores
from brats_infer.image.voxels import dilate
from brats_infer.tasks import LesionMetrics, Task, task_named
from tests.evaluate import oracle

GLI, MEN = task_named("gli"), task_named("men")
SMALL_LESIONS = replace(MEN, metrics=LesionMetrics(dilation_iterations=1, ignored_mm3=2.0))
TASKS = st.sampled_from([GLI, MEN, SMALL_LESIONS])
SPACINGS = st.sampled_from([(1.0, 1.0, 1.0), (0.5, 0.9, 3.0), (2.0, 1.0, 1.5)])
SHAPE = (22, 18, 16)
Map = NDArray[np.uint8]


@st.composite
def label_maps(draw: st.DrawFn, shape: tuple[int, int, int] = SHAPE) -> tuple[Map, Map]:
    """A reference of boxes and single voxels, anywhere up to the border, and a prediction that shares some of them."""
    prediction, reference = np.zeros((2, *shape), np.uint8)
    for _ in range(draw(st.integers(0, 7))):
        corner = [draw(st.integers(0, side - 1)) for side in shape]
        size = [draw(st.integers(1, 7)) for _ in shape]
        shift = [draw(st.integers(-1, 2)) for _ in shape]
        label, where = draw(st.integers(0, 3)), draw(st.sampled_from(["both", "prediction", "reference"]))
        if where != "prediction":
            reference[tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))] = label
        if where != "reference":
            moved = [max(c + s, 0) for c, s in zip(corner, shift, strict=True)]
            prediction[tuple(slice(c, c + n) for c, n in zip(moved, size, strict=True))] = label
    return prediction, reference


def assert_same(ours: dict[str, RegionScores], expected: dict[str, dict[str, float]]) -> None:
    assert list(ours) == list(expected)
    for region, columns in ours.items():
        assert asdict(columns) == pytest.approx(expected[region], abs=1e-9), region


@settings(max_examples=80, deadline=None, derandomize=True)
@given(maps=label_maps(), task=TASKS, spacing=SPACINGS)
def test_scores_are_those_of_the_oracle(maps: tuple[Map, Map], task: Task, spacing: oracle.Spacing) -> None:
    assert_same(lesionwise_scores(*maps, task, spacing), oracle.scores(*maps, task, spacing))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    maps=label_maps(),
    order=st.sampled_from(list(permutations(range(3)))),
    mirrored=st.sets(st.integers(0, 2)),
    spacing=SPACINGS,
)
def test_flips_and_permuted_axes_change_nothing(
    maps: tuple[Map, Map], order: tuple[int, ...], mirrored: set[int], spacing: oracle.Spacing
) -> None:
    turned = (np.flip(labels.transpose(order), tuple(mirrored)) for labels in maps)
    along = (spacing[order[0]], spacing[order[1]], spacing[order[2]])
    expected = {region: asdict(columns) for region, columns in lesionwise_scores(*maps, GLI, spacing).items()}
    assert_same(lesionwise_scores(*turned, GLI, along), expected)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(maps=label_maps(), task=TASKS)
def test_identical_maps_score_1_and_0(maps: tuple[Map, Map], task: Task) -> None:
    _, reference = maps
    for scores in lesionwise_scores(reference, reference, task).values():
        assert (scores.lesionwise_dice, scores.lesionwise_hd95) == (1.0, 0.0)
        assert (scores.legacy_dice, scores.legacy_hd95, scores.num_fp, scores.num_fn) == (1.0, 0.0, 0, 0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(maps=label_maps(), task=TASKS)
def test_a_stray_voxel_far_from_everything_counts_as_one_more_lesion(maps: tuple[Map, Map], task: Task) -> None:
    prediction, reference = (np.pad(labels, (0, 8)) for labels in maps)
    before = lesionwise_scores(prediction, reference, task)
    prediction[-1, -1, -1] = 3
    for region, after in lesionwise_scores(prediction, reference, task).items():
        was = before[region]
        n = was.num_tp + was.num_fn + was.num_fp
        assert after.num_fp == was.num_fp + 1
        assert after.lesionwise_dice == pytest.approx(was.lesionwise_dice * n / (n + 1), abs=1e-12)
        assert after.lesionwise_hd95 == pytest.approx((was.lesionwise_hd95 * n + 374) / (n + 1), abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(maps=label_maps((12, 9, 7)), iterations=st.integers(0, 4))
def test_dilation_is_that_of_scipy(maps: tuple[Map, Map], iterations: int) -> None:
    mask = maps[0] > 0
    expected = ndimage.binary_dilation(mask, oracle.TOUCHING_18, iterations) if iterations else mask
    np.testing.assert_array_equal(dilate(mask, iterations), expected)


def test_a_component_that_bridges_two_lesions_serves_both() -> None:
    reference, prediction = np.zeros((2, 40, 12, 12), np.uint8)
    reference[2:8, 2:8, 2:8] = reference[30:36, 2:8, 2:8] = 3
    prediction[2:36, 2:8, 2:8] = 3
    scores = lesionwise_scores(prediction, reference, GLI)["ET"]
    assert (scores.num_tp, scores.num_fp, scores.num_fn) == (2, 0, 0)
    assert scores.lesionwise_dice == pytest.approx(2 * 216 / (216 + 34 * 36))


def test_lesions_of_50_mm3_are_ignored_whoever_touches_them() -> None:
    reference, prediction = np.zeros((2, 20, 20, 20), np.uint8)
    reference[2:7, 2:7, 2:4] = 2  # 50 voxels
    assert lesionwise_scores(prediction, reference, GLI)["WT"].lesionwise_dice == 1.0
    prediction[2, 2, 2] = 2
    touched = lesionwise_scores(prediction, reference, GLI)["WT"]
    assert (touched.num_tp, touched.num_fp, touched.num_fn, touched.lesionwise_dice) == (0, 0, 0, 1.0)
    reference[2, 2, 4] = 2
    assert lesionwise_scores(prediction, reference, GLI)["WT"].num_tp == 1


def test_dilation_decides_which_components_are_one_lesion() -> None:
    reference = np.zeros((30, 12, 12), np.uint8)
    reference[2:8, 2:8, 2:8] = reference[14:20, 2:8, 2:8] = 1  # a gap of six voxels
    assert lesionwise_scores(reference, reference, GLI)["TC"].num_tp == 1
    assert lesionwise_scores(reference, reference, MEN)["TC"].num_tp == 2


def test_big_volumes_with_lesions_at_opposite_corners() -> None:
    shape, spacing, crop = (512, 512, 176), (0.5, 0.5, 1.0), (24, 20, 16)
    maps = np.zeros((2, *shape), np.uint8)  # prediction, reference
    maps[0, 2:13, :9, 1:8], maps[1, :12, :9, :7] = 3, 3
    maps[0, -9:, -12:, -7:], maps[1, -11:, -14:, -7:] = 2, 2
    crops = {
        (0, 0, 0): maps[:, : crop[0], : crop[1], : crop[2]],
        (488, 492, 160): maps[:, -crop[0] :, -crop[1] :, -crop[2] :],
    }
    parts = [oracle.scores(*part, GLI, spacing)["WT"] for part in crops.values()]
    surfaces = []
    for side in range(2):
        pieces = [oracle.elements(part[side] > 0, spacing, origin) for origin, part in crops.items()]
        surfaces.append((np.concatenate([p for p, _ in pieces]), np.concatenate([a for _, a in pieces])))
    expected = {
        **{column: parts[0][column] + parts[1][column] for column in ("num_tp", "num_fp", "num_fn")},
        "sensitivity": (maps > 0).all(axis=0).sum() / (maps[1] > 0).sum(),
        "specificity": (~(maps > 0).any(axis=0)).sum() / (maps[1] == 0).sum(),
        "legacy_dice": oracle.dice(maps[0] > 0, maps[1] > 0),
        "legacy_hd95": oracle.hd95_of_elements(*surfaces),
        "reference_volume": (maps[1] > 0).sum() * 0.25,
        **{column: (parts[0][column] + parts[1][column]) / 2 for column in ("lesionwise_dice", "lesionwise_hd95")},
    }
    scores = lesionwise_scores(*maps, GLI, spacing)
    assert asdict(scores["WT"]) == pytest.approx(expected, abs=1e-9)
    assert scores["ET"].lesionwise_dice == pytest.approx(parts[0]["lesionwise_dice"])


@pytest.mark.parametrize(
    ("prediction", "spacing", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), (1.0, 1.0, 1.0), "shapes"),
        (np.full((4, 4, 4), 4, np.uint8), (1.0, 1.0, 1.0), "prediction holds the label 4"),
        (np.zeros((4, 4, 4), np.uint8), (1.0, 0.0, 1.0), "spacing"),
    ],
)
def test_what_makes_no_sense_is_refused(prediction: Map, spacing: oracle.Spacing, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lesionwise_scores(prediction, np.zeros((4, 4, 4), np.uint8), GLI, spacing)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64"])
def test_arrays_of_whole_numbers_of_any_type_are_scored(dtype: str) -> None:
    reference = np.zeros((20, 18, 16), np.uint8)
    reference[2:9, 3:12, 2:10] = 2
    prediction = np.roll(reference, 1, axis=0)
    expected = lesionwise_scores(prediction, reference, GLI, (1.0, 1.0, 2.0))
    given_as = prediction.astype(dtype), reference.astype(dtype)
    assert lesionwise_scores(*given_as, "gli", spacing=[1, 1, 2]) == expected
    assert lesionwise_scores(prediction.tolist(), torch.from_numpy(reference), "gli", (1, 1, 2)) == expected


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [(1.5, float, "holds 1.5"), (np.nan, float, "holds nan"), (np.inf, float, "holds inf"), (1, bool, "array of bool")],
)
@pytest.mark.filterwarnings("error")
def test_arrays_of_other_numbers_are_no_label_maps(value: float, dtype: type, said: str) -> None:
    with pytest.raises(ValueError, match=f"the prediction .*{said}"):
        lesionwise_scores(np.full((4, 4, 4), value, dtype), np.zeros((4, 4, 4), np.uint8), GLI)
