"""What a run says about its cases."""

import io

import pytest
from rich.console import Console

from brats_infer import __version__
from brats_infer.files.cases import Case
from brats_infer.run.events import CaseResult, Start, Status
from brats_infer.run.progress_bar import Progress

CASES = tuple(Case(f"BraTS-GLI-0000{number}-000", None, {}) for number in range(3))


def test_a_case_is_one_line_whatever_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress.start(Start(CASES[:1], "cpu", ()))
        progress.advance(
            CaseResult("a\nb\x1b[31m[bold]:smile:\udcff", Status.FAILED, None, "it is bad", ("x\ny[red]: odd",))
        )
    assert capsys.readouterr().err.splitlines() == [
        f"brats-opt {__version__}: 1 case",
        "warning: x y[red]: odd",
        r"[1/1] a b\x1b[31m[bold]:smile:\udcff: failed: it is bad",
    ]


def test_a_log_that_cannot_be_written_costs_no_case() -> None:
    class FullDisk(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    with Progress(console=Console(file=FullDisk())) as progress:
        progress.start(Start(CASES[:1], "cpu", ()))
        progress.advance(CaseResult("a", Status.WRITTEN))
    assert progress.done == 1


def test_bar_on_a_terminal_names_case_stage_and_time_left() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, markup=False)
    with Progress(console=console) as progress:
        progress.start(Start(CASES, "cpu", ()))
        progress.advance(CaseResult("a", Status.WRITTEN))
        progress.stage("BraTS-GLI-[1]", "network")
        progress.bar.refresh()
    shown = screen.getvalue()
    assert "BraTS-GLI-[1]: network" in shown
    assert "1/3" in shown
    assert "left:" in shown
