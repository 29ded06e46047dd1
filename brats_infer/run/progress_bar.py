"""The progress of a run on stderr: a bar on a terminal, a line at the start and a line for each case."""

import json
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from brats_infer import __version__
from brats_infer.errors import printable
from brats_infer.run.events import CaseResult, Start
from brats_infer.system.console import Screen, Voice, say


class Progress:
    """Shows the run's start, each case's stages and each case's result."""

    def __init__(self, part: str = "", console: Console | None = None, voice: Voice = Voice.PLAIN) -> None:
        """`part`: the part of the cases, as text; empty for all cases."""
        self.part = part
        self.console = console or Screen()
        self.voice = voice
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self.bar = Bar(
            *columns,
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal or voice in (Voice.QUIET, Voice.JSON),
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
        self.total = len(known.cases)
        self.row = self.bar.add_task("segmenting", total=self.total)
        members = [{"task": m.task, "file": m.file, "sha256": m.sha256} for m in known.members]
        event = {
            "version": __version__,
            "cases": self.total,
            "part": self.part,
            "device": known.device,
            "members": members,
        }
        part = f", {self.part}" if self.part else ""
        few = ": there are fewer cases than parts" if self.part and not self.total else ""
        lines = [f"brats-opt {__version__}: {self.total} {'case' if self.total == 1 else 'cases'}{part}{few}"]
        if self.voice is Voice.VERBOSE:
            lines += [f"device: {known.device}"]
            lines += [f"network for {m['task']}: {m['file']}, sha256 {m['sha256']}" for m in members]
        self._say("start", event, [] if self.voice is Voice.QUIET else lines)

    def stage(self, case_id: str, stage: str) -> None:
        """A case enters a stage."""
        self.bar.update(self.row, description=f"{printable(case_id)}: {stage}")

    def advance(self, result: CaseResult) -> None:
        """A case has ended."""
        self.done += 1
        lines = [f"warning: {warning}" for warning in result.warnings]
        if self.voice is not Voice.QUIET or result.message:
            lines.append(f"[{self.done}/{self.total}] {result.id}: {_ending(result)}")
        if self.voice is Voice.VERBOSE and result.seconds:
            lines.append("  " + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in result.seconds.items()))
        self.bar.advance(self.row)
        self._say("case", {"number": self.done, "cases": self.total, **_plain(result)}, lines)

    def _say(self, event: str, values: dict[str, Any], lines: list[str]) -> None:
        """Prints lines, or an event for programs."""
        for line in [json.dumps({"event": event, **values})] if self.voice is Voice.JSON else map(printable, lines):
            say(self.console, line)


def _plain(result: CaseResult) -> dict[str, Any]:
    return {
        "id": result.id,
        "status": result.status.value,
        "task": result.task,
        "message": result.message,
        "warnings": list(result.warnings),
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
        "labels_ml": result.millilitres,
        "expected_dice": result.expected_dice,
    }


def _ending(result: CaseResult) -> str:
    parts = [result.status.value]
    if result.seconds:
        parts.append(f"in {sum(result.seconds.values()):.1f} s")
    if result.millilitres:
        parts.append("(" + ", ".join(f"{name} {ml:.1f} ml" for name, ml in result.millilitres.items()) + ")")
    return " ".join(parts) + (f": {result.message}" if result.message else "")
