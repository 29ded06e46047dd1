"""Whose turn it is with a device, of several threads that have a case each."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import TypeVar

import torch
from torch import Tensor

from brats_infer.network.gpu.memory import beside, on_host

T = TypeVar("T")


class Asked:
    """What a thread whose turn it is has given the device to compute."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._computed: torch.cuda.Event | None = None
        if x.device.type == "cuda":
            self._computed = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._computed.record(torch.cuda.current_stream(x.device))

    @property
    def here(self) -> bool:
        """Whether it lies on the host, computed."""
        return self._computed is None

    def answer(self) -> Tensor:
        """On the host, once it is computed, and without waiting for what others give the device meanwhile."""
        if self._computed is None:
            return self._x
        self._computed.synchronize()
        with beside(self._x.device):
            return on_host(self._x)


class Turn:
    """Of the threads that give a device work, one at a time holds `lock`; while it waits for the answer, the next one.

    So a GPU has the next case to compute before the last one's answer has been looked at.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._changed = Condition()
        self._cases = 0
        self._taken = False

    def look(self, x: Tensor, see: Callable[[Tensor], T]) -> T:
        """What is seen in it on the host; others have their turn while a GPU computes it. For who holds `lock`."""
        asked = Asked(x)
        if asked.here:
            return see(x)
        self.lock.release()
        try:
            return see(asked.answer())
        finally:
            self.lock.acquire()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """A case is there, beside others."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._cases += 1
        try:
            yield
        finally:
            with self._changed:
                self._cases -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A case is there, and no other."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken)
            self._taken = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._cases)
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


_TURNS: dict[torch.device, Turn] = {}


def turn_at(device: torch.device) -> Turn:
    """One for all ensembles of a device: what they record shares its memory."""
    return _TURNS.setdefault(device, Turn())  # in one step, as several threads may be the first
