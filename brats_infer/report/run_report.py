"""The report of a run: draws each case after its label map is written, and writes the rest at the end."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from brats_infer.errors import CaseError, OutputError, printable
from brats_infer.files.cases import is_safe_id
from brats_infer.report.page import write_page
from brats_infer.report.picture import draw_picture, grey
from brats_infer.report.record import Seen, case_record, head, member_record, peak_memory, write_record
from brats_infer.report.sight import Sight, lesions_of, read_sight, sight_of
from brats_infer.report.volumes import holds_volumes, write_volumes
from brats_infer.run.events import CaseResult, Events, Finished, Start, Status
from model.atomic import remove_leftovers

log = logging.getLogger(__name__)

PICTURES, DATA = "pictures", "data"


def remove_others(folder: Path, records: Iterable[dict[str, Any]]) -> None:
    """Removes images of cases that the report does not show, so that nobody passes them on unknowingly.

    Files that no report wrote stay. Raises OSError.
    """
    shown = {record["id"] for record in records if record["viewer"]}
    gone = {record["id"] for record in records if is_safe_id(record["id"])}
    gone |= {path.stem for path in (folder / DATA).glob("*.js") if holds_volumes(path)}
    for path in (folder / part for case_id in gone - shown for part in _parts_of(case_id)):
        path.unlink(missing_ok=True)


def make_parts(folder: Path) -> None:
    """Makes the folders of a report, and removes files that a killed run left half written. Raises OSError."""
    for name in (PICTURES, DATA):
        (folder / name).mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / name)


class RunReport:
    """Hears of a run's start and of every finished case; `write` makes the report.

    A report that cannot be written costs no label map: its error is kept until `write` raises it, after the run.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        """`options` are the user's choices, as the report shows them. Raises OutputError."""
        self.folder = folder
        self.options = options
        self.began = time.perf_counter()
        self.created = datetime.now(UTC)
        self.known: Start | None = None
        self.seen: dict[str, Seen] = {}
        self.fault: OutputError | None = None
        self._disk(partial(make_parts, folder))

    def beside(self, others: Events) -> Events:
        """Events that reach the report and the others."""

        def start(known: Start) -> None:
            self.start(known)
            others.start(known)

        def finished(done: Finished) -> None:
            self.finished(done)
            if others.finished:
                others.finished(done)

        return replace(others, start=start, finished=finished)

    def start(self, known: Start) -> None:
        """The run begins."""
        self.known = known

    def finished(self, done: Finished) -> None:
        """A label map is written: draws the case while its images are in memory."""
        if self.fault:
            return
        began = time.perf_counter()
        assert done.case.task
        try:
            sight = sight_of(done.case.id, done.case.task, done.cropped, done.labelled.labels)
            self._show(sight, began)
        except OutputError as error:
            self.fault = error
        except Exception as error:  # a failed picture costs no label map
            _say_undrawn(done.case.id, error)

    def write(self, output_folder: Path, results: Sequence[CaseResult]) -> None:
        """Draws the cases of earlier runs and other processes, and writes report.json, report.csv and the page.

        Raises OutputError.
        """
        if self.fault:
            raise self.fault
        drawn = {result.id for result in results if result.status in (Status.SKIPPED, Status.WRITTEN)} - set(self.seen)
        assert self.known
        for case in self.known.cases:
            if case.id in drawn:
                try:
                    self._show(read_sight(case, output_folder / case.output_name), time.perf_counter())
                except OutputError:
                    raise
                except Exception as error:
                    _say_undrawn(case.id, error)
        content = self._content(results)

        def write_all() -> None:
            remove_others(self.folder, content["cases"])
            write_record(self.folder, content)
            write_page(self.folder, content)

        self._disk(write_all)

    def _show(self, sight: Sight, began: float) -> None:
        picture, viewer = _parts_of(sight.id)
        greys = [grey(image) for image in sight.images]
        volumes = sight.millilitres
        self._disk(lambda: draw_picture(greys, sight.labels, sight.task, sight.id, volumes, self.folder / picture))
        overlays = {"labels": sight.labels}
        self._disk(lambda: write_volumes(self.folder / viewer, sight.id, sight.task, greys, overlays, sight.affine))
        lesions = lesions_of(sight)
        seconds = time.perf_counter() - began
        self.seen[sight.id] = Seen(sight.regions, volumes, lesions, seconds, picture, viewer)

    def _content(self, results: Sequence[CaseResult]) -> dict[str, Any]:
        assert self.known
        return {
            **head("run"),
            "created": self.created.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.began, 3),
            "device": self.known.device,
            "peak_memory": peak_memory(),
            "options": self.options,
            "members": [member_record(member) for member in self.known.members],
            "cases": [case_record(result, self.seen.get(result.id, Seen())) for result in results],
        }

    def _disk(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be written ({error.strerror}): choose another --report"
            ) from error


def _parts_of(case_id: str) -> tuple[str, str]:
    """The paths of a case's picture and of its volumes for the viewer, in the report's folder."""
    return f"{PICTURES}/{case_id}.png", f"{DATA}/{case_id}.js"


def _say_undrawn(case_id: str, error: Exception) -> None:
    reason = str(error) if isinstance(error, CaseError) else printable(f"{type(error).__name__}: {error}")
    log.warning("warning: no picture of %s: %s", case_id, reason)
    log.debug("", exc_info=error)
