"""Pediatric tumors: their places, cysts, and how little they enhance."""

import numpy as np
import pytest
import torch

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.kinds.pediatric import MIDLINE, SITES, plan_pediatric
from brats_infer.phantom.make import Phantom, make_phantom
from brats_infer.phantom.settings import T2W
from brats_infer.phantom.task_recipes import RECIPES
from tests.phantom.test_make import ANATOMY, CPU

GROWTH = RECIPES["ped"].growth
ET, NET, CC, ED = 1, 2, 3, 4


@pytest.fixture(scope="module")
def cases() -> list[Phantom]:
    return [make_phantom([ANATOMY], "ped", seed) for seed in range(6)]


def test_they_start_below_the_tentorium_or_in_deep_grey_matter() -> None:
    tissues = ANATOMY.clone()
    for number, tissue in enumerate(SITES):
        tissues[20 + 4 * number : 24 + 4 * number, 40:44, 40:44] = int(tissue)
    found = set()
    for seed in range(40):
        (lesion,) = plan_pediatric(Draw.of_seed(seed, CPU), tissues, GROWTH)
        x, y, z = (int(v) for v in lesion.centre)
        found.add(Tissue(int(tissues[x, y, z])))
    assert found <= set(SITES)
    assert {Tissue.BRAINSTEM, Tissue.CEREBELLAR_WHITE, Tissue.DEEP_GREY} <= found


def test_in_an_anatomy_without_such_tissues_they_start_in_the_low_midline() -> None:
    middle = ANATOMY.shape[0] / 2
    for seed in range(10):
        (lesion,) = plan_pediatric(Draw.of_seed(seed, CPU), ANATOMY, GROWTH)
        assert abs(lesion.centre[0] - middle) < MIDLINE + 2
        assert lesion.centre[2] <= ANATOMY.shape[2] / 2 + 2


def test_solid_tumor_in_all_cases_cysts_in_most_and_little_edema(cases: list[Phantom]) -> None:
    volumes = [np.bincount(case.labels.numpy().ravel(), minlength=5)[1:] for case in cases]
    assert all(len(v) == 4 for v in volumes)
    assert all(v[NET - 1] + v[ET - 1] > 100 for v in volumes)
    assert sum(v[CC - 1] > 20 for v in volumes) > len(cases) / 2
    assert np.median([v[ED - 1] / v.sum() for v in volumes]) < 0.35


def test_half_of_the_cases_hardly_enhance(cases: list[Phantom]) -> None:
    share = [float((case.labels == ET).sum() / (case.labels > 0).sum()) for case in cases]
    assert 0.2 < np.mean([x < 0.1 for x in share]) < 0.9
    assert max(share) > 0.2


def test_cysts_are_bright_in_t2(cases: list[Phantom]) -> None:
    ratios = []
    for case in cases:
        image, cyst = case.images[T2W], case.labels == CC
        healthy = (case.labels == 0) & (image != 0)
        ratios += [float(image[cyst].median() / image[healthy].median())] if int(cyst.sum()) > 50 else []
    assert np.median(ratios) > 1.3


def test_the_same_seed_gives_the_same_case(cases: list[Phantom]) -> None:
    again = make_phantom([ANATOMY], "ped", 4)
    assert torch.equal(again.labels, cases[4].labels)
    assert torch.equal(again.images, cases[4].images)
