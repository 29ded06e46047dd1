"""Weights and an undisturbed run, once; a bench for every test."""

from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pytest

from brats_infer.files.labels import read_labels
from tests.faults import anatomy
from tests.faults.bench import GOOD, Bench, Ended, finish, start


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return anatomy.write_network(tmp_path_factory.mktemp("faults") / "weights")


@pytest.fixture(scope="session")
def undisturbed(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Ended]:
    """The label map that every good case must get, which is that of the anatomy; and how a run without faults ends."""
    bench = Bench(tmp_path_factory.mktemp("undisturbed"), weights, b"")
    with TemporaryFile() as stderr, start(bench.command(), bench.root, stderr) as process:
        ended = finish(process, stderr)
    assert ended.code == 0, ended.stderr
    maps = {(bench.output / f"{case_id}.nii.gz").read_bytes() for case_id in GOOD}
    np.testing.assert_array_equal(read_labels(bench.output / f"{GOOD[0]}.nii.gz")[0], anatomy.truth())
    (reference,) = maps
    return reference, ended


@pytest.fixture
def bench(weights: Path, undisturbed: tuple[bytes, Ended], tmp_path: Path) -> Bench:
    return Bench(tmp_path, weights, undisturbed[0])
