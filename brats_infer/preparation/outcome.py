"""The result of one study or case in a run over many."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """The result of one study or case."""

    name: str
    problem: str | None = None
    """One line; None if all was written."""
