"""Gliomas after treatment: the cavity holds fluid, tumor stays at its edge, radiation change follows the ventricles."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.growth import Lesion
from brats_infer.phantom.kinds.after_treatment import grow_after_treatment, resected
from brats_infer.phantom.make import Phantom, make_phantom
from brats_infer.phantom.settings import BLOOD, CAVITY, RADIATION, RIM, T1N, T2F, T2W
from brats_infer.phantom.task_recipes import RECIPES
from brats_infer.tasks import ED, ET, NCR
from tests.phantom.test_make import ANATOMY, CPU

LESION = Lesion(centre=(45.0, 60.0, 50.0), radius=9.0, rim=3.0, edema=2.0, push=0.0, rough=0.2)
GROWTH = RECIPES["gli-post"].growth
SEEDS = range(5)


@pytest.fixture(scope="module")
def cases() -> list[Phantom]:
    """Without blood, and with realistic contrasts only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brats_infer.phantom.kinds.after_treatment.BLOOD_SHARE", 0.0)
        patch.setattr("brats_infer.phantom.make.WILD_SHARE", 0.0)
        return [make_phantom([ANATOMY], "gli-post", seed) for seed in SEEDS]


def test_each_region_is_in_most_cases(cases: list[Phantom]) -> None:
    for label in (1, 2, 3, 4):
        assert sum(int((case.labels == label).sum()) > 20 for case in cases) > len(cases) / 2, label
    assert all(set(np.unique(case.labels)) <= {0, 1, 2, 3, 4} for case in cases)


def test_the_cavity_is_fluid(cases: list[Phantom]) -> None:
    found: dict[int, list[float]] = {T1N: [], T2W: [], T2F: []}
    for case in cases:
        cavity = case.labels == 4
        healthy = (case.labels == 0) & (case.images[T1N] != 0)
        for channel, ratios in found.items():
            if int(cavity.sum()) > 100:
                ratios.append(float(case.images[channel][cavity].median() / case.images[channel][healthy].median()))
    assert np.median(found[T1N]) < 0.75
    assert np.median(found[T2W]) > 1.3
    assert np.median(found[T2F]) < 0.75


def test_what_is_left_of_the_tumor_lies_at_the_cavitys_edge() -> None:
    kinds = set()
    for seed in SEEDS:
        parts = resected(Draw.of_seed(seed, CPU), LESION, ANATOMY, torch.zeros_like(ANATOMY))
        kinds |= set(np.unique(parts).tolist())
        away = ndimage.distance_transform_edt(~torch.isin(parts, torch.tensor((CAVITY, BLOOD))).numpy())
        assert away[(parts == ET).numpy()].max(initial=0) <= 5 * np.sqrt(3)
        assert away[(parts == RIM).numpy()].max(initial=0) <= np.sqrt(3)
        assert ndimage.label(away == 0, np.ones((3, 3, 3)))[1] == 1
    assert {ED, ET, CAVITY, RIM} <= kinds


def test_blood_settles_at_the_back_of_the_cavity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brats_infer.phantom.kinds.after_treatment.BLOOD_SHARE", 1.0)
    for seed in SEEDS:
        parts = resected(Draw.of_seed(seed, CPU), LESION, ANATOMY, torch.zeros_like(ANATOMY))
        _, blood, _ = (parts == BLOOD).nonzero().T
        _, fluid, _ = (parts == CAVITY).nonzero().T
        assert len(blood)
        assert not len(fluid) or int(fluid.max()) < int(blood.min())


def test_radiation_change_is_white_matter_near_the_ventricles() -> None:
    share = []
    away = ndimage.distance_transform_edt(ANATOMY.numpy() != Tissue.VENTRICLE)
    for seed in SEEDS:
        changed = grow_after_treatment(Draw.of_seed(seed, CPU), [LESION], ANATOMY, GROWTH) == RADIATION
        assert not bool((changed & (ANATOMY != Tissue.WHITE)).any())
        share += [float(np.median(away[changed.numpy()]))] if bool(changed.any()) else []
    assert len(share) > len(SEEDS) / 2
    assert np.median(share) < np.median(away[ANATOMY.numpy() == Tissue.WHITE])


def test_a_cavity_replaces_core_and_total_resection_leaves_no_necrosis() -> None:
    left = []
    for seed in SEEDS:
        parts = grow_after_treatment(Draw.of_seed(seed, CPU), [LESION], ANATOMY, GROWTH)
        left.append(int((parts == NCR).sum()))
    assert min(left) == 0 < max(left)
