"""One report of a run for all tests of it: two cases that are well, one that is not, one with a tag for a name."""

from pathlib import Path

import pytest

from brats_infer.cohort import segment_folder
from brats_infer.phantom.write import write_cohort
from brats_infer.report import RunReport
from brats_infer.run.events import CaseResult, Events
from brats_infer.settings import Settings
from tests.case_files import touch_case
from tests.small_networks import random_network, write_weights

SHAPE = (40, 44, 36)
TAG = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input`, `output` and `report` of a run with a random network, and `weights`."""
    folder = tmp_path_factory.mktemp("report")
    list(write_cohort(folder / "input", "gli", 3, seed=1, shape=SHAPE))
    touch_case(folder / "input", "BraTS-GLI-01003-000")
    touch_case(folder / "input", TAG)
    (folder / "weights").mkdir()
    write_weights(folder / "weights", [random_network(seed=5)])
    run_with_report(folder, "output", "report")
    return folder


def run_with_report(folder: Path, output: str, report: str) -> list[CaseResult]:
    made = RunReport(folder / report, {"task": "gli"})
    events = made.beside(Events())
    results = segment_folder(
        folder / "input",
        folder / output,
        task="gli",
        weights=folder / "weights",
        device="cpu",
        settings=Settings(component_probability=0),  # a random network is sure of nothing
        events=events,
    )
    made.write(folder / output, results)
    return results
