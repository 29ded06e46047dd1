"""What is kept of the networks' answer, and what it needs no more."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from brats_infer.image.crop import Restore
from brats_infer.labelling.label_map import (
    found_in,
    inside_brain,
    labels_from_probabilities,
    probability_maps,
)
from brats_infer.labelling.postprocess import clean_up
from brats_infer.settings import Settings
from brats_infer.tasks import TASKS, Rule
from tests.small_networks import cropped_of

GLI = TASKS["gli"]
SHAPE = (20, 18, 16)
SURE = (slice(4, 14), slice(3, 12), slice(5, 15))
UNSURE = (slice(16, 19), slice(13, 17), slice(2, 6))


@pytest.fixture
def probabilities() -> Tensor:
    """Two components, one of which is unsure, in noise below the thresholds."""
    found = 0.3 * torch.rand((3, *SHAPE), generator=torch.Generator().manual_seed(0))
    found[:, *SURE] += 0.65
    found[2, 4] = 0  # only NCR there
    found[:, *UNSURE] += 0.25
    return found


def restore() -> Restore:
    return cropped_of(np.ones((4, *SHAPE), np.float32)).restore


def test_probabilities_in_the_labels_box_say_all_that_cleaning_asks(probabilities: Tensor) -> None:
    part, all_of_it = (found_in(probabilities, GLI, whole) for whole in (False, True))
    np.testing.assert_array_equal(all_of_it.probabilities, probabilities.numpy())
    x, y, z = (slice(found.min(), found.max() + 1) for found in np.nonzero(part.labels))
    expected = np.zeros((3, *SHAPE), np.float32)
    expected[:, x, y, z] = probabilities[:, x, y, z].numpy()
    np.testing.assert_array_equal(part.probabilities, expected)

    settings = Settings(dust=0)
    cleaned = [clean_up(each.labels, each.probabilities, GLI, 1.0, settings) for each in (part, all_of_it)]
    np.testing.assert_array_equal(*cleaned)
    assert part.labels[UNSURE].any()
    assert not cleaned[0][UNSURE].any()
    assert cleaned[0][SURE].all()


def test_nothing_found_keeps_no_probability(probabilities: Tensor) -> None:
    found = found_in(probabilities * 0.4, GLI, complete=False)
    assert not found.labels.any()
    assert found.probabilities.shape == (3, *SHAPE)
    assert not found.probabilities.any()


def test_maps_are_made_of_whole_probabilities_alone(probabilities: Tensor) -> None:
    with pytest.raises(ValueError, match="not kept"):
        probability_maps(found_in(probabilities, GLI, complete=False), restore())
    maps = probability_maps(found_in(probabilities, GLI, complete=True), restore())
    assert maps.shape == (3, *SHAPE)


def test_only_whole_probabilities_are_taken_out_beside_the_brain(probabilities: Tensor) -> None:
    brain = np.zeros(SHAPE, bool)
    brain[:15] = True
    for whole in (False, True):
        found = found_in(probabilities, GLI, whole)
        assert found.labels[15:].any()
        inside = inside_brain(found, brain)
        assert not inside.labels[15:].any()
        assert inside.labels[:15].any()
        assert inside.probabilities[:, 15:].any() != whole
        assert inside.complete == whole


def test_the_innermost_region_above_its_threshold_wins() -> None:
    """As LabelManager of nnU-Net writes regions one over the other."""
    probabilities = torch.rand((3, *SHAPE), generator=torch.Generator().manual_seed(1))
    probabilities[:, 0] = 0.5  # not above
    regions = tuple(replace(region, threshold=0.5) for region in GLI.regions)
    found = labels_from_probabilities(probabilities, replace(GLI, regions=regions, rule=Rule.INNERMOST), slab=3)
    expected = np.zeros(SHAPE, np.uint8)
    for region, probability in zip(regions, probabilities.numpy(), strict=True):
        expected[probability > 0.5] = region.label
    np.testing.assert_array_equal(found.numpy(), expected)
    assert set(np.unique(expected)) == {0, 1, 2, 3}


def test_the_most_probable_label_wins() -> None:
    """As argmax over a softmax of background, ED, NCR and ET, of which the regions hold the sums."""
    each = torch.softmax(3 * torch.randn((4, *SHAPE), generator=torch.Generator().manual_seed(1)), dim=0)
    nested = each[1:].flip(0).cumsum(0).flip(0)
    found = labels_from_probabilities(nested, replace(GLI, rule=Rule.ARGMAX), slab=3)
    np.testing.assert_array_equal(found.numpy(), np.array([0, 2, 1, 3])[each.argmax(0).numpy()])
    with pytest.raises(ValueError, match="NaN"):
        labels_from_probabilities(nested.log().sqrt(), replace(GLI, rule=Rule.ARGMAX))
