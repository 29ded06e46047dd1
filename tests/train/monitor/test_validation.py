"""Validation: Dice and HD95 of each region, and the score that checkpoints are ranked by."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from brats_infer.network.engines import TorchEngine
from brats_infer.network.gpu.half_engine import HalfEngine, in_half
from brats_infer.network.loading import ensemble_of
from brats_infer.network.windows import predict_member
from brats_infer.tasks import TASKS
from brats_infer.train.choices import Selection
from brats_infer.train.data.dataset import TrainingCase
from brats_infer.train.monitor.validation import ensemble_in_training, predicted_labels, validate
from model.config import UNetConfig
from model.unet import UNet
from tests.evaluate import oracle
from tests.small_networks import random_network, training_case

CPU = torch.device("cpu")
GLI = TASKS["gli"]
CONFIG = UNetConfig(channels=(3, 5))
CASE = training_case("BraTS-GLI-00000-000", np.random.default_rng(0), (16, 15, 14))
EMPTY = replace(CASE, regions=torch.zeros_like(CASE.regions))


class Bright(UNet):
    """Finds WT and TC in the bright voxels of two modalities, and ET wherever TC is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x[:, 3:4] - 0.6, x[:, 2:3] - 0.6, x[:, :1] * 0 + 1), dim=1) * 1000


class Blind(UNet):
    """Finds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3] * 0 - 9


def test_what_overflows_fp16_is_validated_in_float32() -> None:
    """Here on the CPU, with the layers of a GPU."""
    network = random_network(seed=5)  # one of those that find every label
    first = next(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv3d))
    with torch.no_grad():
        first.weight *= 1e6  # which the norm behind it undoes
    half = HalfEngine(network, half=in_half(network))
    with torch.inference_mode():
        assert predict_member(half, CASE.image.float(), None, flips=False).sum().isnan()
    (member,) = ensemble_in_training(network, GLI, CPU).members
    on_gpu, exact = (
        ensemble_of(GLI, [(member, network)], device, make_engine=lambda *_, engine=engine: engine)
        for device, engine in ((torch.device("cpu:0"), half), (CPU, TorchEngine(network, dtype=torch.float32)))
    )
    found, expected = (predicted_labels(ensemble, CASE) for ensemble in (on_gpu, exact))
    assert np.array_equal(found, expected)
    assert len(np.unique(expected)) > 1


def test_scores_are_dice_and_hd95_of_each_region() -> None:
    wt = CASE.image[3].float() > 0.6
    tc = wt & (CASE.image[2].float() > 0.6)
    entry = validate(Bright(CONFIG), (CASE,), GLI, CPU, Selection.DICE)
    for name, found, true in zip(("WT", "TC", "ET"), (wt, tc, tc), CASE.regions, strict=True):
        overlap, sizes = int((found & true).sum()), int(found.sum()) + int(true.sum())
        assert entry["cases"][CASE.id][name]["dice"] == pytest.approx(2 * overlap / sizes, abs=6e-5)
        distance = oracle.hd95(found.numpy(), true.numpy(), (1.0, 1.0, 1.0))
        assert entry["cases"][CASE.id][name]["hd95"] == pytest.approx(distance, abs=6e-3)
    values = list(entry["cases"][CASE.id].values())
    assert entry["dice"] == pytest.approx(np.mean([value["dice"] for value in values]), abs=1e-4)
    assert entry["hd95"] == pytest.approx(np.mean([value["hd95"] for value in values]), abs=1e-2)
    assert values[2]["hd95"] > 0


@pytest.mark.parametrize(("case", "dice", "hd95", "score"), [(EMPTY, 1, 0, 1), (CASE, 0, 374, 0)])
def test_region_absent_from_both_counts_as_found_and_from_one_as_missed(
    case: TrainingCase, dice: float, hd95: float, score: float
) -> None:
    entry = validate(Blind(CONFIG), (case,), GLI, CPU, Selection.DICE_HD95)
    assert (entry["dice"], entry["hd95"], entry["score"]) == (dice, hd95, score)


def test_score_is_the_dice_or_its_mean_with_the_distance() -> None:
    cases = (CASE, replace(EMPTY, id="BraTS-GLI-00001-000"))
    plain = validate(Bright(CONFIG), cases, GLI, CPU, Selection.DICE)
    both = validate(Bright(CONFIG), cases, GLI, CPU, Selection.DICE_HD95)
    assert plain["score"] == plain["dice"]
    assert both["score"] == pytest.approx((both["dice"] + 1 - both["hd95"] / 374) / 2, abs=2e-4)


def test_without_cases_every_checkpoint_scores_the_same() -> None:
    for select in Selection:
        assert validate(Blind(CONFIG), (), GLI, CPU, select) == {"score": 0, "dice": 0, "hd95": 0, "cases": {}}
