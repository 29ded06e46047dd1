"""What is said on stderr, which may be narrow, full or closed, and costs no result then."""

import json
import logging
import sys
from contextlib import suppress
from enum import StrEnum

from rich.console import Console

NARROWEST = 20  # some set COLUMNS to 0, in which nothing would be shown


class Screen(Console):
    """Lines are not broken or coloured, and what stands in them is text, no markup."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
        if self.width < NARROWEST:
            self.width = NARROWEST

    def on_broken_pipe(self) -> None:
        """Whoever read the log has gone; rich on its own would end the run."""
        self.quiet = True


def say(console: Console, line: str) -> None:
    """A line, or nothing where it cannot be written."""
    with suppress(OSError):
        console.print(line)


class Voice(StrEnum):
    """How much is said, and to whom."""

    QUIET = "quiet"
    """Warnings and errors."""
    PLAIN = "plain"
    """A bar on a terminal, and a line a case."""
    VERBOSE = "verbose"
    """Also networks, device and the time of each stage."""
    JSON = "json"
    """To programs: a JSON object a line, with its kind under "event"."""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": "log", "level": record.levelname.lower(), "message": super().format(record)})


def speak_as(voice: Voice) -> None:
    """Sets up what is logged; may be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if voice is Voice.JSON else logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.raiseExceptions = False  # the exit code counts, even if nobody reads the line
