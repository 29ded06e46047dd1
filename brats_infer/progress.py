"""What a run says while it works: a bar on a terminal, and a line at its start and for each case; all on stderr."""

from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from brats_infer import __version__
from brats_infer.errors import printable
from brats_infer.pipeline import CaseResult
from brats_infer.watch import Start


class Progress:
    """Told of the number of cases and of each case's ending."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Bar(
            *columns,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.total = 0
        self.done = 0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def start(self, known: Start) -> None:
        """The cases are known and the weights are loaded."""
        self.total = total = known.cases
        self.row = self.bar.add_task("segmenting", total=total)
        self._say(f"brats-opt {__version__}: {total} {'case' if total == 1 else 'cases'}")

    def stage(self, case_id: str, stage: str) -> None:
        """A case enters a stage; the bar shows the one that the device works on."""
        if stage == "network":
            self.bar.update(self.row, description=printable(case_id))

    def advance(self, result: CaseResult) -> None:
        """A case has ended."""
        self.done += 1
        lines = [f"warning: {warning}" for warning in result.warnings]
        lines.append(f"[{self.done}/{self.total}] {result.id}: {_ending(result)}")
        self.bar.advance(self.row)
        self._say(*lines)

    def _say(self, *lines: str) -> None:
        with suppress(OSError):  # a log on a full disk costs no case
            for line in lines:
                self.console.print(printable(line))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read the log has gone; rich on its own would end the run."""
        self.quiet = True


def _ending(result: CaseResult) -> str:
    parts = [result.status.value]
    if result.seconds:
        parts.append(f"in {sum(result.seconds.values()):.1f} s")
    if result.millilitres:
        parts.append("(" + ", ".join(f"{name} {ml:.1f} ml" for name, ml in result.millilitres.items()) + ")")
    return " ".join(parts) + (f": {result.message}" if result.message else "")
