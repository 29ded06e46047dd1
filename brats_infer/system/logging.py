"""How the program speaks on stderr."""

import json
import logging
import sys
from enum import StrEnum


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
