"""SIGTERM and Ctrl-C, whenever they come: one line, the documented exit code, only whole files."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from brats_infer.errors import ExitCode, Terminated

INTERRUPTED = "interrupted: run the same again to go on (infer: with --resume)"
TERMINATED = "terminated: run the same again to go on (infer: with --resume)"


@contextmanager
def end_at_once() -> Iterator[None]:
    """For imports: nothing needs tidying up yet, and code that is imported may catch what a signal raises in it."""
    before = _handle(_end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Signals wait until this ends: for a library that crashes when interrupted, or brings its own handlers."""
    if threading.current_thread() is not threading.main_thread():  # where none arrives, and none may be handled
        yield
        return
    came: list[int] = []
    before = _handle(lambda number, _: came.append(number))
    handle, signal.signal = signal.signal, lambda number, _: signal.getsignal(number)  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = handle
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:  # also where the library has failed meanwhile: others may have had the signal too
            signal.raise_signal(number)


def raise_once() -> None:
    """From now on the first signal raises KeyboardInterrupt or Terminated; more of them disturb no tidying up."""
    _handle(_raise)


@contextmanager
def raising() -> Iterator[None]:
    """As `raise_once`, until this ends; then what was there before, though nothing is raised a second time."""
    before = _handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            came = signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if came and handler is _raise else handler)


def ignore() -> None:
    """From now on nothing interrupts: the run has ended, and how it ended is what the exit code shall tell."""
    _handle(signal.SIG_IGN)


def _handle(handler: Callable[[int, Any], None] | signal.Handlers) -> dict[int, Any]:
    """Sets it for both signals; returns what was there. One that is ignored stays so, as in a shell's background."""
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def _end(number: int, _: object) -> None:
    message, code = (
        (TERMINATED, ExitCode.TERMINATED) if number == signal.SIGTERM else (INTERRUPTED, ExitCode.INTERRUPTED)
    )
    try:
        os.write(2, f"brats-opt: {message}\n".encode())
    finally:
        os._exit(code)


def _raise(number: int, _: object) -> None:
    ignore()
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
