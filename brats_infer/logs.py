"""How the program speaks: of its work on stderr, its answers on stdout."""

import json
import logging
import os
import sys
from enum import StrEnum

import click

from brats_infer.errors import OutputError


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


def answer(text: str, newline: bool = True) -> None:
    """Writes what a command was asked for to stdout, at once. Raises OutputError where it cannot be written."""
    try:
        click.echo(text, nl=newline)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again at its end, and says so
        raise OutputError(f"standard output: cannot be written ({error.strerror}): send it elsewhere") from error
