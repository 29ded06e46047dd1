"""What lies around a brain: never labelled, near it, and as bright as blood and soft tissue are."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from brats_infer.phantom.anatomy import Tissue
from brats_infer.phantom.around.surroundings import REMAINS_SHARE, paint_remains, paint_sinuses, remains
from brats_infer.phantom.fields import Draw, dilated
from brats_infer.phantom.settings import T1C, T1N, T2W
from tests.phantom.test_make import ANATOMY, CPU

CASES = 24


def test_remains_of_some_cases_lie_around_the_brain_and_nowhere_else() -> None:
    away = ndimage.distance_transform_edt(ANATOMY.numpy() == 0)
    found = []
    for seed in range(CASES):
        left = remains(Draw.of_seed(seed, CPU), ANATOMY)
        assert not bool(left[ANATOMY > 0].any())
        assert not left.any() or away[left.numpy()].max() <= 8 * np.sqrt(3)
        found.append(bool(left.any()))
    assert 0 < sum(found) < min(CASES, 2 * CASES * REMAINS_SHARE)


def test_remains_are_painted_where_they_are() -> None:
    left = next(x for seed in range(CASES) if (x := remains(Draw.of_seed(seed, CPU), ANATOMY)).any())
    images = torch.full((4, *ANATOMY.shape), 0.5)
    painted = paint_remains(Draw.of_seed(0, CPU), images, left)
    assert torch.equal(painted[:, ~left], images[:, ~left])
    assert float(painted[:, left].std()) > 0.1
    assert float((painted[T1C] - painted[T1N])[left].mean()) > -0.1
    assert torch.equal(paint_remains(Draw.of_seed(0, CPU), images, torch.zeros_like(left)), images)


@pytest.mark.parametrize("seed", range(3))
def test_sinuses_enhance_in_the_midline_but_not_in_tumors(seed: int) -> None:
    images = torch.full((4, *ANATOMY.shape), 0.5)
    labels = torch.zeros_like(ANATOMY)
    labels[:, :40] = 2
    paint_sinuses(Draw.of_seed(seed, CPU), images, ANATOMY, labels)
    bright = images[T1C] > 0.6
    assert bright.any()
    x, _, z = bright.nonzero().float().mean(dim=0).tolist()
    assert abs(x - ANATOMY.shape[0] / 2) < 3
    assert z > ANATOMY.shape[2] / 2
    assert float(images[T1C][bright].mean()) > float(images[T2W][bright].mean())
    assert bool((images[:, :, :37] == 0.5).all())  # blurred by less than 3 voxels
    assert float((ANATOMY == Tissue.WHITE)[bright].float().mean()) < 0.1  # blurred into it


@pytest.mark.parametrize("reach", [1, 3])
def test_dilation_is_scipys(reach: int) -> None:
    mask = torch.rand((12, 14, 16), generator=torch.Generator().manual_seed(1)) > 0.99
    expected = ndimage.binary_dilation(mask.numpy(), np.ones((2 * reach + 1,) * 3))
    np.testing.assert_array_equal(dilated(mask, reach).numpy(), expected)
