"""A small network of random weights, and three cases."""

import shutil
from pathlib import Path

import pytest

from brats_infer.phantom.write import write_cohort
from tests.run.runs import SHAPE
from tests.small_networks import random_network, write_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder, [random_network(seed=5)])  # one of those that find every label
    return folder


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    list(write_cohort(folder, "gli", 3, seed=1, shape=SHAPE))
    return folder


@pytest.fixture
def cases(samples: Path, tmp_path: Path) -> Path:
    """Three cases that the test may break."""
    return Path(shutil.copytree(samples, tmp_path / "input"))
