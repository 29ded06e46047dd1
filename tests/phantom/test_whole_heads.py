from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from brats_infer.errors import UsageError
from brats_infer.phantom.fields import Draw, sample
from brats_infer.phantom.heads import Head, Outer, RealBrain, draw_head, head_of, load_heads
from tests.phantom.head_codes import codes_of_a_head

SIDE = (48, 48, 48)


@pytest.fixture(scope="module")
def head() -> Head:
    return head_of(codes_of_a_head())


def test_brain_is_tissue_and_the_fluid_near_it(head: Head) -> None:
    codes = codes_of_a_head()
    assert bool(head.brain[torch.from_numpy((codes == 3) | (codes == 2))].all())
    assert not bool(head.brain[torch.from_numpy(codes >= 500)].any())
    assert set(head.materials[~head.brain].unique().tolist()) <= {0, *Outer}


def test_same_seed_gives_the_same_head_and_another_one_another_contrast(head: Head) -> None:
    first, again, other = (
        draw_head(Draw.of_seed(seed, torch.device("cpu")), [head], SIDE, 4.0).image for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_image_is_positive_and_brain_a_share(head: Head) -> None:
    for seed in range(6):
        drawn = draw_head(Draw.of_seed(seed, torch.device("cpu")), [head], SIDE, 4.0)
        image, brain = drawn.image, drawn.brain
        assert image.shape == brain.shape == SIDE
        assert bool(torch.isfinite(image).all())
        assert float(image.min()) >= 0
        assert 0 <= float(brain.min()) <= float(brain.max()) <= 1 + 1e-5
        assert float(brain.mean()) > 0.005  # a part of it may lie outside of the field of view


def test_real_brain_keeps_its_shape_in_another_head(head: Head) -> None:
    x, y, z = torch.meshgrid(*[torch.arange(100) - 50] * 3, indexing="ij")
    ball = x**2 + y**2 + z**2 < 40**2
    real = RealBrain(ball.float() * 0.7, ball)
    draw = Draw.of_seed(3, torch.device("cpu"))
    drawn = draw_head(draw, [head], SIDE, 4.0, real)
    image, brain = drawn.image, drawn.brain
    litres = float(brain.sum()) * 4**3 / 1e6
    assert 0.5 * 0.268 < litres < 2 * 0.268  # zoomed by up to 15 % an axis
    assert float(image[brain < 0.01].max()) > 0  # a head around it
    there = sample(ball[None], drawn.places, "bilinear")[0]
    assert torch.allclose(there * (brain > 0), brain)  # where it was seen


def test_label_maps_without_codes_outside_of_the_brain_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no label map"):
        load_heads(tmp_path)
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 3, np.int16), np.eye(4)), tmp_path / "brain.nii.gz")
    with pytest.raises(UsageError, match="whole heads"):
        load_heads(tmp_path)
