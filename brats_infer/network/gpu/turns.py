"""Turns on a device for several threads, each with its own case."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import TypeVar

import torch
from torch import Tensor

from brats_infer.network.gpu.memory import beside, on_host

T = TypeVar("T")


class Asked:
    """A tensor that the device may still be computing."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._computed: torch.cuda.Event | None = None
        if x.device.type == "cuda":
            self._computed = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._computed.record(torch.cuda.current_stream(x.device))

    @property
    def here(self) -> bool:
        """Whether the tensor is computed and on the host."""
        return self._computed is None

    def answer(self) -> Tensor:
        """The computed tensor on the host. Does not wait for later work of other threads."""
        if self._computed is None:
            return self._x
        self._computed.synchronize()
        with beside(self._x.device):
            return on_host(self._x)


class Turn:
    """One thread at a time holds `lock` and queues work. While it waits for a result, the next thread holds `lock`.

    So a GPU has the next case in its queue before a thread examines the last result.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._changed = Condition()
        self._cases = 0
        self._taken = False

    def look(self, x: Tensor, see: Callable[[Tensor], T]) -> T:
        """Applies `see` to the tensor on the host. The caller holds `lock`, which is free while a GPU computes."""
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
        """A case uses the device beside other cases."""
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
        """A case uses the device alone."""
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
    """The turn of a device. All ensembles share it, as their CUDA graphs share memory."""
    return _TURNS.setdefault(device, Turn())  # atomic: several threads may come first
