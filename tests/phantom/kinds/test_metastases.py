"""Metastases: their number, sizes, places, and how they enhance."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.growth import Lesion
from brats_infer.phantom.kinds.metastases import GAP, MOST, grow_metastases, plan_metastases
from brats_infer.phantom.make import make_phantom
from brats_infer.phantom.task_recipes import RECIPES
from brats_infer.tasks import ED, ET, NCR
from tests.phantom.test_make import ANATOMY, CPU

GROWTH = RECIPES["met"].growth


@pytest.fixture(scope="module")
def plans() -> list[list[Lesion]]:
    return [plan_metastases(Draw.of_seed(seed, CPU), ANATOMY, GROWTH) for seed in range(30)]


def test_one_to_twenty_lesions_of_2_to_30_mm_most_of_them_small(plans: list[list[Lesion]]) -> None:
    counts = [len(plan) for plan in plans]
    assert (min(counts), max(counts) > 10, max(counts) <= MOST) == (1, True, True)
    diameters = [2 * lesion.radius for plan in plans for lesion in plan]
    assert 2 <= min(diameters) < 3
    assert 20 < max(diameters) <= 30
    assert np.median(diameters) == pytest.approx(np.sqrt(2 * 30), rel=0.3)  # log-distributed
    assert all(plan[0].radius == max(lesion.radius for lesion in plan) for plan in plans)


def test_they_start_at_the_border_of_grey_and_white_matter_and_touch_no_other(plans: list[list[Lesion]]) -> None:
    white = ndimage.distance_transform_edt(ANATOMY.numpy() != Tissue.WHITE)
    for plan in plans:
        for number, lesion in enumerate(plan):
            x, y, z = (int(v) for v in lesion.centre)
            assert ANATOMY[x, y, z] == Tissue.CORTEX
            assert white[x, y, z] <= np.sqrt(3)
            for other in plan[:number]:
                gap = np.linalg.norm(np.subtract(lesion.centre, other.centre)) - lesion.radius - other.radius
                assert gap > GAP


def lesion(radius: float, edema: float = 0.0) -> Lesion:
    rim = 0.3 * radius if radius > 5 else 3 * radius
    return Lesion((45.0, 45.0, 45.0), radius, rim=rim, edema=edema, push=0.0, rough=0.05)


@pytest.mark.parametrize("radius", [0.3, 1.0, 2.5, 5.0])
def test_small_lesions_are_solid_and_never_lost(radius: float) -> None:
    parts = grow_metastases(Draw.of_seed(0, CPU), [lesion(radius)], ANATOMY, GROWTH)
    assert set(np.unique(parts)) == {0, ET}
    assert int((parts == ET).sum()) <= 2.2 * max(4.2 * radius**3, 8)


def test_large_lesions_are_rings_with_edema_larger_than_they() -> None:
    parts = grow_metastases(Draw.of_seed(2, CPU), [lesion(5.9, edema=3.0)], ANATOMY, GROWTH)
    core = int((parts == ET).sum() + (parts == NCR).sum())
    assert core == pytest.approx(4 / 3 * np.pi * 5.9**3, rel=0.3)
    assert int((parts == NCR).sum()) > 0.1 * core
    assert int((parts == ED).sum()) > 1.5 * core


def test_cases_hold_what_was_planned() -> None:
    for seed in range(2):
        case = make_phantom([ANATOMY], "met", seed)
        assert int((case.labels == 3).sum()) > 0
        assert set(np.unique(case.labels)) <= {0, 1, 2, 3, 4}
        assert torch.isfinite(case.images).all()
