"""SIGTERM and Ctrl-C at any time: one line, the documented exit code, no partial files."""

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
    """A signal ends the process at once. For imports: they need no cleanup, and may catch a signal's exception."""
    before = _handle(_end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held() -> Iterator[None]:
    """Signals wait until the context ends: for a library that crashes on a signal or sets its own handlers."""
    if threading.current_thread() is not threading.main_thread():  # no signal arrives there, and no handler may be set
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
        for number in came[:1]:  # also if the library has failed: its processes may have had the signal too
            signal.raise_signal(number)


def raise_once() -> None:
    """From now on the first signal raises KeyboardInterrupt or Terminated; later signals do not disturb the cleanup."""
    _handle(_raise)


@contextmanager
def raising() -> Iterator[None]:
    """As `raise_once` within the context; then restores the handlers, but no signal raises a second time."""
    before = _handle(_raise)
    try:
        yield
    finally:
        for number, handler in before.items():
            came = signal.getsignal(number) is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if came and handler is _raise else handler)


def ignore() -> None:
    """From now on signals do nothing: the run has ended, and the exit code must tell how."""
    _handle(signal.SIG_IGN)


def _handle(handler: Callable[[int, Any], None] | signal.Handlers) -> dict[int, Any]:
    """Sets a handler for both signals; returns the old handlers. Ignored signals stay ignored (a shell's &)."""
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
