"""What the tests of volumes share."""

from pathlib import Path

import pytest

from tests.case_files import head
from tests.case_files import write_image as save


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "image.nii.gz", head())
