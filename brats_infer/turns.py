"""Whose turn it is with a device, of several threads that have a case each."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

import torch
from torch import Tensor

from brats_infer.devices import beside, on_host


class Turn:
    """Of the threads that give a device work, one at a time holds `lock`; while it waits for the answer, the next one.

    So a GPU has the next case to compute before the last one's answer has been looked at.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._changed = Condition()
        self._cases = 0
        self._taken = False

    def look(self, x: Tensor) -> Tensor:
        """On the host, once it is computed, and without waiting for what others give the device meanwhile."""
        if x.device.type != "cuda":
            return x
        computed = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        computed.record(torch.cuda.current_stream(x.device))
        self.lock.release()
        try:
            computed.synchronize()
            with beside(x.device):
                return on_host(x)
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
            self._changed.wait_for(lambda: not self._cases)
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


_TURNS: dict[torch.device, Turn] = {}


def turn_at(device: torch.device) -> Turn:
    """One for all ensembles of a device: what they record shares its memory."""
    return _TURNS.setdefault(device, Turn())  # in one step, as several threads may be the first
