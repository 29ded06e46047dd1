"""Synthetic cases made while training: a new one a patch, the same for the same seed."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from brats_infer.errors import UsageError
from brats_infer.image.normalise import Normalisation
from brats_infer.phantom.anatomy import tissues_of
from brats_infer.phantom.make import make_phantom
from brats_infer.phantom.write import write_cohort
from brats_infer.tasks import TASKS
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split
from brats_infer.train.data.fresh import phantom_maker
from brats_infer.train.data.patches import draw_batch
from brats_infer.train.run import run
from brats_infer.train.run_config import TrainConfig
from tests.phantom.heads import head_codes
from tests.small_networks import training_case

CPU = torch.device("cpu")
SMALL = 48


@pytest.fixture(scope="module")
def anatomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anatomy")
    nib.Nifti1Image(head_codes(SMALL), np.diag([-1.0, -1.0, 1.0, 1.0])).to_filename(folder / "head.nii.gz")
    return folder


def test_case_is_the_phantom_of_its_seed_normalised(anatomy: Path) -> None:
    case = phantom_maker(str(anatomy), TASKS["men"], Normalisation.ZSCORE, None, 1)(5, CPU)
    phantom = make_phantom([torch.from_numpy(tissues_of(head_codes(SMALL).astype(np.int64)))], "men", 5)
    assert torch.equal(case.image[4] > 0, (phantom.images != 0).any(dim=0))
    assert torch.equal(case.regions[0], phantom.labels > 0)
    inside = case.image[1].float()[phantom.images[1] != 0]
    assert abs(float(inside.mean())) < 0.05
    assert float(inside.std()) == pytest.approx(1, abs=0.05)


def test_coarser_grid_holds_the_same_case(anatomy: Path) -> None:
    fine, coarse = (phantom_maker(str(anatomy), TASKS["gli"], Normalisation.ZSCORE, None, s)(3, CPU) for s in (1, 2))
    assert [-(-side // 2) for side in fine.image.shape[1:]] == list(coarse.image.shape[1:])
    assert int(coarse.regions[0].sum()) == pytest.approx(int(fine.regions[0].sum()) / 8, rel=0.1)


def test_each_synthetic_patch_is_of_a_new_case_and_drawn_again_alike(anatomy: Path) -> None:
    real = training_case("BraTS-GLI-00000-000", np.random.default_rng(0))
    made: list[int] = []
    maker = phantom_maker(str(anatomy), TASKS["gli"], Normalisation.ZSCORE, None, 2)
    split = Split((real,), (), fresh=lambda seed, device: made.append(seed) or maker(seed, device))  # type: ignore[func-returns-value]
    config = TrainConfig(TrainOptions(patch=16, phantom_share=0.5))
    first, again = (
        draw_batch(split, config, [np.random.default_rng(seed) for seed in range(6)], CPU)[0] for _ in range(2)
    )
    assert torch.equal(first, again)
    half = len(made) // 2
    assert made[:half] == made[half:]
    assert 0 < half < 6
    assert len(set(made)) == half
    del made[:]
    draw_batch(split, config.with_options(phantom_share=0.0), [np.random.default_rng(0)], CPU)
    assert not made


@pytest.mark.parametrize("length", [{"steps": 2}, {"epochs": 2}], ids=str)
def test_made_cases_alone_train_while_every_real_one_is_held_out(
    anatomy: Path, tmp_path: Path, length: dict[str, int]
) -> None:
    ids = list(write_cohort(tmp_path / "data", "gli", 2, seed=3, shape=(20, 22, 18)))
    given: dict[str, Any] = {
        "channels": (2, 3),
        "patch": 8,
        "normalisation": "zscore",
        "hold_out": tuple(ids),
        **length,
    }
    places: dict[str, Any] = {"data": tmp_path / "data", "out": tmp_path / "out", "init": None, "publish_to": None}
    rest: dict[str, Any] = {"recipe": None, "task": "gli", "device": "cpu", "trained_on": "", "licence": ""}
    best = run({**given, "anatomy": str(anatomy)}, **places, **rest)
    assert list(best["cases"]) == ids
    assert json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])["step"] == 2
    with pytest.raises(UsageError, match="no case to train on"):
        run({**given, "anatomy": str(anatomy), "normalisation": "zscore+rescale+histogram"}, **places, **rest)


def test_folder_without_anatomies_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no label map"):
        phantom_maker(str(tmp_path), TASKS["gli"], Normalisation.ZSCORE, None, 1)
