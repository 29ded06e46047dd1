"""Ctrl-C and SIGTERM as exceptions, held back where half of the work could not be resumed."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from brats_infer.errors import Terminated


@dataclass
class Interrupts:
    """Raises KeyboardInterrupt or Terminated when a signal arrives, or at the end of what holds it back."""

    holding: bool = False
    waiting: BaseException | None = None

    def arrive(self, number: int, _: object) -> None:
        error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if not self.holding:
            raise error
        self.waiting = error

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.waiting:
            raise self.waiting


@contextmanager
def interrupts_as_exceptions() -> Iterator[Interrupts]:
    """Takes both signals over, and gives them back at the end."""
    interrupts = Interrupts()
    # one that is ignored stays so, as for a command that a shell started in the background
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupts.arrive) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
