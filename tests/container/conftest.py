"""The built image, run by a real engine. `make image-test` says where the organizers' programs are: nothing is skipped.

Elsewhere (`make test`) these tests are skipped: they would test an image that is older than the code.
"""

import os
from pathlib import Path

import pytest

from brats_infer.phantom.write import write_cohort
from tests.container.engine import IMAGE, ORGANIZERS, contents, docker, folders, run, write_renamed_case


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)
            if not os.environ.get(ORGANIZERS):
                item.add_marker(pytest.mark.skip(reason="of the built image: `make image-test`"))


@pytest.fixture(scope="session", autouse=True)
def image() -> str:
    """The image under test; without it there is nothing to test."""
    if not docker("image", "ls", "--quiet", IMAGE):
        pytest.exit(f"no image {IMAGE}: make image VARIANT=cpu", returncode=1)
    return IMAGE


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small cases of gli: an input folder that costs a run few seconds."""
    folder = tmp_path_factory.mktemp("small")
    list(write_cohort(folder, "gli", 2, seed=1, shape=(60, 68, 52)))
    folder.chmod(0o755)  # pytest makes it for one user alone
    return folder


@pytest.fixture(scope="session")
def expected(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the image makes of the small cases without arguments: every other way of starting gives the same bytes."""
    output = tmp_path_factory.mktemp("expected")
    done = run(volumes=folders(small, output))
    assert done.returncode == 0, done.stderr
    return contents(output)


@pytest.fixture(scope="session")
def expected_on_all_cores(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same, for programs that do not let the number of threads be chosen: sums are made in another order."""
    output = tmp_path_factory.mktemp("expected")
    done = run(volumes=folders(small, output), options=("-e", f"OMP_NUM_THREADS={os.cpu_count()}"))
    assert done.returncode == 0, done.stderr
    return contents(output)


@pytest.fixture(scope="session")
def many(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve cases: links to the images of one."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(12):
        write_renamed_case(small / "BraTS-GLI-01000-000", folder, f"BraTS-GLI-{number:05d}-000")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An empty output folder of root, as most runners make it."""
    folder = tmp_path / "output"
    folder.mkdir()
    return folder
