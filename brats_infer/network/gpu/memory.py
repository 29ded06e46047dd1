"""Moving data to and from a GPU: pinned memory, a side stream, the allocator's cache."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)


def pinned_memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
    """Memory on the host from and to which a GPU copies several times as fast; None where there is too little of it."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        log.debug("memory could not be pinned", exc_info=error)
        return None


def host_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Pinned where the device is a GPU; else as numpy allocates it, in large pages."""
    memory = pinned_memory(shape, dtype) if device.type == "cuda" else None
    return torch.from_numpy(np.empty(shape, str(dtype).removeprefix("torch."))) if memory is None else memory


def pinned(x: Tensor) -> Tensor:
    """In memory from which a GPU copies without waiting; as it is where there is too little of it."""
    memory = pinned_memory(x.shape, x.dtype)
    return x if memory is None else memory.copy_(x)


def on_host(x: Tensor) -> Tensor:
    """On the CPU; from a GPU into pinned memory."""
    target = pinned_memory(x.shape, x.dtype) if x.device.type == "cuda" else None
    return x.cpu() if target is None else target.copy_(x)


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """Nothing in it waits for what a GPU has been given to compute, nor does that wait: for copies and small work.

    What is computed in it is there when it ends.
    """
    if device.type != "cuda":
        yield
        return
    stream = _side_stream(device)
    # of the device: coming back to the stream of another one would make a context there, which takes memory
    with torch.cuda.device(device), torch.cuda.stream(stream):
        yield
        stream.synchronize()


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # one for all, as memory that is freed goes back to its own stream alone
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


def release_memory() -> None:
    """To other programs, and whatever else this process has a GPU compute."""
    with suppress(RuntimeError):  # of a GPU that has failed, or that is recording
        torch.cuda.empty_cache()
