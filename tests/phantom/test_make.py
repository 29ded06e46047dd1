"""Synthetic cases: what holds for every one of them."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats_infer.phantom.anatomy import Tissue, tissues_of
from brats_infer.phantom.fields import Draw, blur, grid_of, sample, smooth_noise
from brats_infer.phantom.growth import Lesion, displacement, grow, plan_lesions
from brats_infer.phantom.make import Phantom, make_phantom
from brats_infer.phantom.scanner import to_integers
from brats_infer.phantom.settings import T1C, T2F
from brats_infer.phantom.task_recipes import RECIPES
from brats_infer.tasks import ED, ET, NCR
from tests.phantom.heads import head_codes

CPU = torch.device("cpu")
ANATOMY = torch.from_numpy(tissues_of(head_codes().astype(np.int64)))
TASKS = ("gli", "ssa", "men")


@pytest.fixture(scope="module")
def cases() -> dict[tuple[str, int], Phantom]:
    return {(task, seed): make_phantom([ANATOMY], task, seed) for task in TASKS for seed in range(6)}


def test_same_seed_same_case(cases: dict[tuple[str, int], Phantom]) -> None:
    torch.manual_seed(5)
    again = make_phantom([ANATOMY], "gli", 3)
    assert torch.equal(again.images, cases["gli", 3].images)
    assert torch.equal(again.labels, cases["gli", 3].labels)
    assert not torch.equal(again.images[0, 20], cases["gli", 4].images[0, 20])


def test_every_case_is_a_brain_with_a_tumor_inside(cases: dict[tuple[str, int], Phantom]) -> None:
    for name, case in cases.items():
        seen = (case.images != 0).any(dim=0)
        assert case.images.isfinite().all(), name
        assert (case.images >= 0).all(), name
        assert 0.1 < float(seen.float().mean()) < 0.8, name
        assert set(np.unique(case.labels)) <= {0, NCR, ED, ET}, name
        assert int((case.labels > 0).sum()) > 100, name
        assert not bool((case.labels[~seen] > 0).any()), name


def test_edema_is_bright_in_flair_and_rims_in_t1c(cases: dict[tuple[str, int], Phantom]) -> None:
    """On the median over cases: contrasts stray on purpose."""
    edema, rim = [], []
    for case in cases.values():
        healthy = (case.labels == 0) & (case.images[T2F] != 0)
        if int((case.labels == ED).sum()) > 200:
            edema.append(float(case.images[T2F][case.labels == ED].median() / case.images[T2F][healthy].median()))
        if int((case.labels == ET).sum()) > 200:
            rim.append(float(case.images[T1C][case.labels == ET].median() / case.images[T1C][healthy].median()))
    assert len(edema) > 5
    assert len(rim) > 5
    assert np.median(edema) > 1.15
    assert np.median(rim) > 1.15


def test_meningiomas_start_at_the_surface_and_gliomas_inside() -> None:
    depth = ndimage.distance_transform_edt(ANATOMY.numpy() > 0)
    for seed in range(10):
        centres = {
            task: plan_lesions(Draw.of_seed(seed, CPU), ANATOMY, RECIPES[task].growth)[0].centre
            for task in ("gli", "men")
        }
        x, y, z = (int(v) for v in centres["men"])
        assert depth[x, y, z] < 5 or abs(x - ANATOMY.shape[0] // 2) <= 3
        x, y, z = (int(v) for v in centres["gli"])
        assert ANATOMY[x, y, z] in (Tissue.WHITE, Tissue.CORTEX)


def lesion(**settings: object) -> Lesion:
    defaults: dict[str, object] = {"centre": (45.0, 45.0, 60.0), "radius": 8.0, "rim": 3.0, "edema": 2.0, "push": 0.0}
    return Lesion(**{**defaults, **settings})  # type: ignore[arg-type]


def test_a_lesion_is_in_one_piece() -> None:
    for seed in range(3):
        labels = grow(Draw.of_seed(seed, CPU), [lesion(rough=0.3, edema=4.0)], ANATOMY, RECIPES["gli"].growth)
        for region in (labels > 0, (labels == NCR) | (labels == ET)):
            assert ndimage.label(region.numpy(), np.ones((3, 3, 3)))[1] == 1


def test_core_has_its_radius_and_edema_its_share_and_fluid_stays() -> None:
    labels = grow(Draw.of_seed(0, CPU), [lesion(rough=0.0)], ANATOMY, RECIPES["gli"].growth)
    core = int(((labels == NCR) | (labels == ET)).sum())
    assert core == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.25)
    assert int((labels == ED).sum()) == pytest.approx(2 * core, rel=0.35)
    fluid = (ANATOMY == Tissue.CSF) | (ANATOMY == Tissue.VENTRICLE) | (ANATOMY == 0)
    assert not bool((labels[fluid] == ED).any())


def test_edema_prefers_white_matter() -> None:
    labels = grow(Draw.of_seed(1, CPU), [lesion(edema=6.0)], ANATOMY, RECIPES["gli"].growth)
    share = {t: float((labels[t == ANATOMY] == ED).float().mean()) for t in (Tissue.WHITE, Tissue.CORTEX)}
    assert share[Tissue.WHITE] > 2 * share[Tissue.CORTEX]


def test_low_grades_hardly_enhance() -> None:
    labels = grow(Draw.of_seed(2, CPU), [lesion(low_grade=True, radius=12.0)], ANATOMY, RECIPES["gli"].growth)
    assert int((labels == ET).sum()) < 0.4 * int((labels == NCR).sum())


def test_push_moves_tissue_outward_and_fades() -> None:
    at = grid_of((60, 60, 60), CPU)
    plan = lesion(centre=(30.0, 30.0, 30.0), push=0.7)
    moved = displacement(plan, at)
    assert float(moved[0, 40, 30, 30]) < -0.5  # what is now 10 mm away came from further inside
    assert abs(float(moved[0, 58, 30, 30])) < 0.2
    assert float(displacement(lesion(push=0.0), at).abs().max()) < 1e-3


def test_noise_has_unit_variance_and_its_grain() -> None:
    draw = Draw.of_seed(0, CPU)
    fine, broad = (smooth_noise(draw, (80, 80, 80), grain)[0] for grain in (3, 16))
    for field in (fine, broad):
        assert abs(float(field.mean())) < 0.25
        assert float(field.std()) == pytest.approx(1, abs=0.25)
    assert float((fine[1:] - fine[:-1]).std()) > 3 * float((broad[1:] - broad[:-1]).std())


@pytest.mark.parametrize("sigma", [0.7, 2.0, (0.0, 1.5, 0.5)])
def test_blur_is_scipys(sigma: float | tuple[float, float, float]) -> None:
    x = torch.randn((2, 20, 22, 24), generator=torch.Generator().manual_seed(0))
    expected = [ndimage.gaussian_filter(c.numpy(), sigma, truncate=4.0, mode="nearest") for c in x]
    np.testing.assert_allclose(blur(x, sigma), expected, atol=0.02)


def test_sampling_at_every_voxel_changes_nothing() -> None:
    x = torch.randn((2, 9, 10, 11))
    at = grid_of((9, 10, 11), CPU)
    torch.testing.assert_close(sample(x, at, "bilinear"), x, rtol=0, atol=1e-4)
    assert torch.equal(sample(x, at), x)
    shifted = sample(x, at + torch.tensor([1.0, 0, 0]).reshape(3, 1, 1, 1))
    assert torch.equal(shifted[:, :-1], x[:, 1:])
    assert not shifted[:, -1].any()


def test_integers_keep_the_background_and_only_it_at_0(cases: dict[tuple[str, int], Phantom]) -> None:
    images = cases["gli", 0].images
    integers = to_integers(Draw.of_seed(0, CPU), images)
    assert integers.dtype == torch.int16
    assert torch.equal(integers == 0, images == 0)
    assert int(integers.min()) == 0
