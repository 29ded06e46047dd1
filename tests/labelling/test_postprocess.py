"""Dust and holes against a brute-force oracle written with scipy alone."""

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.labelling import postprocess
from brats_infer.labelling.postprocess import clean, clean_up, drop_unsure, keep_brain
from brats_infer.settings import DustFill, Settings
from brats_infer.tasks import TASKS, Task

GLI = TASKS["gli"]
EDGES_26 = ndimage.generate_binary_structure(3, 3)
Labels = NDArray[np.uint8]
NOT_ASKED = np.full((3, 1, 1, 1), np.nan, np.float32)  # probabilities that nothing looks at


def oracle(labels: Labels, dust: int, modal: bool) -> Labels:
    """The paper's three steps, spelled out region by region on the whole volume."""
    out = labels.copy()
    removed = np.zeros(labels.shape, bool)
    for region, outer, label in (((3,), (1, 3), 1), ((1, 3), (1, 2, 3), 2), ((1, 2, 3), None, None)):
        components, count = ndimage.label(np.isin(out, region), EDGES_26)
        before = out.copy()
        for index in range(1, count + 1):
            voxels = components == index
            if voxels.sum() <= dust:
                out[voxels] = modal_label(before, voxels) if modal else 0
                removed |= voxels
        if outer is not None:
            mask = np.isin(out, outer)
            holes = ndimage.binary_fill_holes(np.pad(mask, 1))[1:-1, 1:-1, 1:-1] & ~mask
            out[holes & removed & (out == 0)] = label
    return out


def modal_label(labels: Labels, voxels: NDArray[np.bool_]) -> int:
    shell = ndimage.binary_dilation(np.pad(voxels, 1), EDGES_26) & ~np.pad(voxels, 1)
    return int(np.bincount(np.pad(labels, 1)[shell], minlength=4).argmax())


def with_dust(voxels: int) -> Task:
    return replace(GLI, regions=tuple(replace(region, dust_mm3=voxels) for region in GLI.regions))


def blob_labels(seed: int, shape: tuple[int, int, int]) -> Labels:
    """Nested blobs with specks and cavities: smoothed noise, cut at three heights, with salt."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2)
    heights = np.digitize(smooth, np.quantile(smooth, [0.5, 0.7, 0.85]))
    labels = np.array([0, 2, 1, 3], np.uint8)[heights]
    salt = rng.random(shape)
    labels[salt < 0.02] = rng.integers(0, 4)
    labels[salt > 0.99] = 0
    return labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(3, 14)] * 3),
    dust=st.integers(0, 60),
    fill=st.sampled_from(DustFill),
)
def test_cleaning_equals_the_brute_force_oracle(
    seed: int, shape: tuple[int, int, int], dust: int, fill: DustFill
) -> None:
    labels = blob_labels(seed, shape)
    expected = oracle(labels, dust, modal=fill is DustFill.MODAL_NEIGHBOUR)
    np.testing.assert_array_equal(clean(labels, with_dust(dust), fill=fill), expected)


def box(labels: Labels, low: int, high: int, label: int) -> None:
    labels[low:high, low:high, low:high] = label


@pytest.fixture
def tumor() -> Labels:
    """ED 20^3, NCR 10^3 inside it, in a volume of 30^3."""
    labels = np.zeros((30, 30, 30), np.uint8)
    box(labels, 5, 25, 2)
    box(labels, 10, 20, 1)
    return labels


def test_hole_opened_by_dust_removal_becomes_necrosis(tumor: Labels) -> None:
    expected = tumor.copy()
    box(tumor, 13, 16, 3)  # 27 voxels of ET inside NCR
    np.testing.assert_array_equal(clean(tumor, GLI), expected)


def test_enhancing_dust_inside_edema_becomes_edema(tumor: Labels) -> None:
    expected = tumor.copy()
    tumor[7, 7, 7] = 3
    np.testing.assert_array_equal(clean(tumor, GLI), expected)


def test_cavity_that_the_network_predicted_stays(tumor: Labels) -> None:
    box(tumor, 13, 16, 0)
    np.testing.assert_array_equal(clean(tumor, GLI), tumor)


def test_dust_beside_a_predicted_cavity_is_filled_and_the_cavity_is_not(tumor: Labels) -> None:
    box(tumor, 13, 15, 0)
    expected = tumor.copy()
    tumor[15, 13, 13] = 3
    np.testing.assert_array_equal(clean(tumor, GLI), expected)


@pytest.mark.parametrize(("voxels", "left"), [(50, 0), (51, 51)])
def test_fifty_voxels_are_dust_and_fifty_one_are_not(voxels: int, left: int) -> None:
    labels = np.zeros((60, 8, 8), np.uint8)
    labels[4 : 4 + voxels, 4, 4] = 2
    assert int((clean(labels, GLI) > 0).sum()) == left


def test_corner_contact_joins_components() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    box(labels, 2, 5, 2)
    box(labels, 5, 8, 2)  # 27 + 27 voxels that touch at a corner
    np.testing.assert_array_equal(clean(labels, GLI), labels)


def test_two_voxels_with_one_between_them_are_dust() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[3:6:2, 4, 4] = 3
    assert not clean(labels, TASKS["gli"]).any()


def test_dust_is_measured_in_cubic_millimetres() -> None:
    labels = np.zeros((12, 12, 12), np.uint8)
    box(labels, 2, 5, 2)  # 27 voxels
    assert not clean(labels, GLI, voxel_mm3=1.0).any()
    assert clean(labels, GLI, voxel_mm3=2.0).any()  # 54 mm3
    labels = np.zeros((167, 3, 3), np.uint8)
    labels[:, 1, 1] = 2
    assert clean(labels, GLI, voxel_mm3=3.0, dust_mm3=500).any()  # 501 mm3
    assert not clean(labels[1:], GLI, voxel_mm3=3.0, dust_mm3=500).any()


def test_spacing_of_a_float32_affine_does_not_move_the_limit() -> None:
    labels = np.zeros((60, 3, 3), np.uint8)
    labels[:50, 1, 1] = 2
    assert not clean(labels, GLI, voxel_mm3=1.0000002).any()


def test_dust_takes_the_label_around_it_in_the_modal_variant(tumor: Labels) -> None:
    expected = tumor.copy()
    tumor[5, 15, 15] = 3  # on its surface: no hole is left to be filled
    np.testing.assert_array_equal(clean(tumor, GLI, fill=DustFill.MODAL_NEIGHBOUR), expected)
    modal = Settings(dust_fill=DustFill.MODAL_NEIGHBOUR, component_probability=0)
    np.testing.assert_array_equal(clean_up(tumor, NOT_ASKED, GLI, 1.0, modal), expected)
    expected[5, 15, 15] = 0
    np.testing.assert_array_equal(clean(tumor, GLI), expected)


def test_empty_map_stays_empty_and_the_input_is_not_changed(tumor: Labels) -> None:
    assert not clean(np.zeros((5, 6, 7), np.uint8), GLI).any()
    tumor[0, 0, 0] = 3
    before = tumor.copy()
    clean(tumor, GLI)
    np.testing.assert_array_equal(tumor, before)


def test_dust_size_can_be_chosen_and_never_takes_everything() -> None:
    labels = np.zeros((30, 30, 30), np.uint8)
    labels[2:7, 2:7, 2:7] = 2  # 125 voxels
    labels[12:22, 12:22, 12:22] = 2  # 1000 voxels
    for size, left in ((50, 1125), (124, 1125), (125, 1000), (999, 1000)):
        assert (clean_up(labels, NOT_ASKED, GLI, 1.0, Settings(dust=size, component_probability=0)) > 0).sum() == left
        assert (clean(labels, GLI, dust_mm3=size) > 0).sum() == left
    assert not clean(labels, GLI, dust_mm3=1000).any()
    everything = Settings(dust=1000, component_probability=0)
    assert np.array_equal(clean_up(labels, NOT_ASKED, GLI, 1.0, everything), clean(labels, GLI))


def test_unsure_components_go_to_the_next_region_out() -> None:
    labels = np.zeros((30, 12, 12), np.uint8)
    labels[1:9, 1:9, 1:9] = 2
    labels[3:6, 3:6, 3:6] = 3  # of the core, but not surely enhancing
    labels[15:20, 1:9, 1:9] = 1  # of the tumor, but not surely core
    labels[24:28, 1:9, 1:9] = 3  # surely nothing
    probabilities = np.zeros((3, *labels.shape), np.float32)
    for places, values in (
        (slice(0, 9), (0.9, 0.8, 0.6)),
        (slice(15, 20), (0.75, 0.5, 0)),
        (slice(24, 28), (0.6,) * 3),
    ):
        probabilities[:, places] = np.reshape(values, (3, 1, 1, 1))
    before = labels.copy()
    kept = drop_unsure(labels, probabilities, GLI, 0.7)
    assert not drop_unsure(np.zeros_like(labels), probabilities, GLI, 0.7).any()
    expected = np.where(labels == 3, 1, labels)
    expected[15:20][labels[15:20] == 1] = 2
    expected[24:] = 0
    assert np.array_equal(kept, expected)
    assert np.array_equal(labels, before)
    assert np.array_equal(drop_unsure(labels, probabilities, GLI, 0.0), labels)


def test_a_sure_component_keeps_what_is_around_it() -> None:
    labels = np.zeros((30, 12, 12), np.uint8)
    labels[1:11, 1:11, 1:11] = 2
    labels[4:7, 4:7, 4:7] = 3  # surely enhancing, in an edema that is not sure
    labels[20:28, 1:9, 1:9] = 2
    probabilities = np.where(labels, np.float32(0.6), np.float32(0))[None].repeat(3, 0)
    probabilities[:, labels == 3] = 0.95
    kept = drop_unsure(labels, probabilities, GLI, 0.7)
    assert np.array_equal(kept[:12], labels[:12])
    assert not kept[12:].any()


def test_an_unsure_tumor_stays_where_there_is_no_other() -> None:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[2:12, 2:12, 2:12] = 2
    unsure = np.full((3, *labels.shape), 0.5, np.float32)
    assert np.array_equal(clean_up(labels, unsure, GLI, 1.0, Settings()), labels)
    labels[15:, 15:, 15:] = 2
    assert (clean_up(labels, unsure, GLI, 1.0, Settings()) > 0).sum() == 1000, "of two unsure ones the smaller is dust"
    assert (clean_up(labels, unsure, GLI, 1.0, Settings(dust=0)) > 0).sum() == 1125
    unsure[:, 15:] = 0.9
    assert (clean_up(labels, unsure, GLI, 1.0, Settings(dust=0)) > 0).sum() == 125


def test_cavity_at_the_edge_of_the_volume_is_outside_the_brain() -> None:
    brain = np.array([[[1, 0, 1], [0, 1, 1]], [[0, 1, 1], [1, 1, 1]]], bool)  # fill_voids alone fills one of them
    assert np.array_equal(keep_brain(np.ones((3, *brain.shape), np.float32), brain) > 0, np.stack([brain] * 3))


@pytest.mark.parametrize("cavity", [(4, 3, 9), (10, 9, 12), (7, 6, 10)])
def test_label_in_a_cavity_stays_and_one_beside_the_brain_goes(cavity: tuple[int, int, int]) -> None:
    brain = np.zeros((14, 13, 16), bool)
    brain[3:12, 2:11, 8:14] = True
    brain[cavity] = False
    labels = np.zeros(brain.shape, np.uint8)
    labels[cavity] = 2
    assert np.array_equal(keep_brain(labels, brain), labels)
    beside = labels.copy()
    beside[12, 5, 9] = 1
    assert np.array_equal(keep_brain(beside, brain), labels)


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 2**31),
    share=st.floats(0.3, 1),
    labelled=st.sampled_from([0.02, 0.2, 1.0]),
    many=st.sampled_from([5, 10_000]),
)
def test_only_what_the_brain_encloses_is_kept(
    shape: tuple[int, int, int], seed: int, share: float, labelled: float, many: int
) -> None:
    rng = np.random.default_rng(seed)
    brain = rng.random(shape) < share
    before = brain.copy()
    probabilities = rng.random((3, *shape), dtype=np.float32) + np.float32(0.01)
    labels = rng.integers(0, 4, shape, np.uint8) * (rng.random(shape) < labelled)
    for found in (probabilities, labels):
        with mock.patch.object(postprocess, "MANY", many):
            kept = keep_brain(found, brain)
        assert kept.dtype == found.dtype
        assert np.array_equal(kept, found * ndimage.binary_fill_holes(brain))
    assert np.array_equal(brain, before)
