"""Output on stderr. A narrow, full or closed stderr costs no result."""

import json
import logging
import sys
from contextlib import suppress
from enum import StrEnum

from rich.console import Console

NARROWEST = 20  # columns; with COLUMNS=0, as some set it, nothing would be shown


class Screen(Console):
    """A console for plain lines: no line breaks, no colours, no markup."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        if self.width < NARROWEST:
            self.width = NARROWEST

    def on_broken_pipe(self) -> None:
        """Goes quiet when the reader of stderr has gone; rich would end the run."""
        self.quiet = True


def say(console: Console, line: str) -> None:
    """Prints a line, or nothing if stderr cannot be written."""
    with suppress(OSError):
        console.print(line)


class Voice(StrEnum):
    """How much is printed, and for whom."""

    QUIET = "quiet"
    """Warnings and errors."""
    PLAIN = "plain"
    """A progress bar on a terminal, and a line for each case."""
    VERBOSE = "verbose"
    """Also networks, device and the time of each stage."""
    JSON = "json"
    """For programs: a JSON object on each line, with its kind under "event"."""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": "log", "level": record.levelname.lower(), "message": super().format(record)})


def speak_as(voice: Voice) -> None:
    """Sets up logging; may be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if voice is Voice.JSON else logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.raiseExceptions = False  # the exit code counts, even if nobody reads the line
