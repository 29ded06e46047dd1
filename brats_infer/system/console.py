"""Where progress is shown: stderr, which may be narrow, full or closed, and costs no result then."""

from contextlib import suppress

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
