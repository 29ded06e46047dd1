"""What every test may use: the material beside the repository, and reproducible property tests."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small volumes, several tests at a time: threads would only wait

settings.register_profile("project", deadline=None, derandomize=True)  # a busy machine is slow, not wrong
settings.load_profile("project")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared material (real cases, official scores); a test that needs it is skipped without it."""
    folder = Path(os.environ.get("BRATS_OPT_SHARED", Path(__file__).parents[1].parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared material at {folder} (set BRATS_OPT_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM as in a program started by hand, whatever the shell or another test did to them."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
