"""A grafted tumor: where it is, what stays of the host, and what is trained on it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split, TrainingCase
from brats_infer.train.data.patches import draw_batch
from brats_infer.train.data.transplant import transplant
from brats_infer.train.run_config import TrainConfig
from tests.small_networks import training_case

SIDE = 16
Patch = tuple[Tensor, Tensor]


def host_without_tumor() -> Patch:
    image = torch.full((5, SIDE, SIDE, SIDE), 0.25)
    image[4] = 1
    image[:, :2] = 0  # background
    return image, torch.zeros(3, SIDE, SIDE, SIDE)


def graft_with_tumor(low: int = 6, high: int = 10) -> Patch:
    image, regions = torch.full((5, SIDE, SIDE, SIDE), 1.0), torch.zeros(3, SIDE, SIDE, SIDE)
    regions[0, low:high, low:high, low:high] = 1
    regions[1:, low + 1 : high - 1, low + 1 : high - 1, low + 1 : high - 1] = 1
    return image, regions


@pytest.mark.parametrize("seed", range(8))
def test_the_graft_brings_its_tumor_and_its_labels_and_leaves_the_rest(seed: int) -> None:
    (image, regions), (graft, grafted) = host_without_tumor(), graft_with_tumor()
    mixed, targets = transplant(image, regions, graft, grafted, np.random.default_rng(seed))

    assert torch.equal(targets, grafted)
    tumor = grafted[0] > 0
    assert (mixed[1::2, tumor] >= 0.25 + 0.5 * 0.75 - 1e-6).all()  # at least half of the graft in T1c and FLAIR
    assert (mixed[0:4:2, tumor] >= 0.25 - 1e-6).all()
    assert torch.equal(mixed[:, :, :, :1], image[:, :, :, :1])  # five voxels away
    assert torch.equal(mixed[4], image[4])


def test_half_of_the_grafts_are_faint_each_contrast_on_its_own() -> None:
    (image, regions), (graft, grafted) = host_without_tumor(), graft_with_tumor()
    grafts = [transplant(image, regions, graft, grafted, np.random.default_rng(seed))[0] for seed in range(200)]
    strengths = (torch.stack([mixed[:4, 8, 8, 8] for mixed in grafts]) - 0.25) / 0.75  # (200, 4)
    faint = (strengths < 0.999).any(dim=1)
    assert float(faint.float().mean()) == pytest.approx(0.5, abs=0.1)
    least = strengths.min(dim=0).values
    assert (least[[0, 2]] < 0.1).all()
    assert ((least[[1, 3]] >= 0.5 - 1e-6) & (least[[1, 3]] < 0.6)).all()


def test_no_tumor_is_grafted_into_the_background() -> None:
    (image, regions), (graft, grafted) = host_without_tumor(), graft_with_tumor(0, 5)
    mixed, targets = transplant(image, regions, graft, grafted, np.random.default_rng(0))
    assert not targets[:, :2].any()
    assert not mixed[:, :2].any()
    assert targets[0, 2:5, :5, :5].all()


def test_the_graft_replaces_the_tumor_of_the_host_where_they_meet() -> None:
    image, _ = host_without_tumor()
    regions = torch.ones(3, SIDE, SIDE, SIDE)
    _, targets = transplant(image, regions, *graft_with_tumor(), np.random.default_rng(0))
    assert not targets[1, 6, 6, 6]  # edema of the graft
    assert targets[:, 12, 12, 12].all()  # the host's own tumor


def without_tumor(case: TrainingCase) -> TrainingCase:
    return TrainingCase.of_arrays("NONE", case.image.numpy(), np.zeros_like(case.regions.numpy()))


def tumors_in_patches(split: Split, transplant: float) -> int:
    options = TrainOptions(patch=16, phantom_share=0.5, transplant=transplant)
    rngs = [np.random.default_rng((0, number)) for number in range(40)]
    return int((draw_batch(split, TrainConfig(options), rngs, torch.device("cpu"))[1][:, 0].sum((1, 2, 3)) > 0).sum())


def test_the_patches_of_brains_without_tumor_get_tumors_at_the_share_asked_for() -> None:
    case = training_case("BraTS-GLI-00000-000", np.random.default_rng(0))
    split = Split((case,), (), phantoms=(without_tumor(case),))
    plain, grafted = tumors_in_patches(split, 0.0), tumors_in_patches(split, 1.0)
    assert plain < 30
    assert grafted >= 38


def test_without_a_real_tumor_nothing_is_grafted() -> None:
    case = training_case("BraTS-GLI-00000-000", np.random.default_rng(0))
    none = without_tumor(case)
    assert tumors_in_patches(replace(Split((none,), ()), phantoms=(none,)), 1.0) == 0
