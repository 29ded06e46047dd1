"""A run that nobody has stopped."""

from pathlib import Path

import pytest

from tests.train.small_runs import run


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    run(out)
    return out
