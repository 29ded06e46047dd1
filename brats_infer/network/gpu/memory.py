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
    """Pinned host memory, which a GPU copies several times as fast; None if too little is free."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        log.debug("memory could not be pinned", exc_info=error)
        return None


def host_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Host memory: pinned for a GPU; else from numpy, which allocates large pages."""
    memory = pinned_memory(shape, dtype) if device.type == "cuda" else None
    return torch.from_numpy(np.empty(shape, str(dtype).removeprefix("torch."))) if memory is None else memory


def pinned(x: Tensor) -> Tensor:
    """A copy in pinned memory, from which a GPU copies without waiting; `x` itself if too little is free."""
    memory = pinned_memory(x.shape, x.dtype)
    return x if memory is None else memory.copy_(x)


def on_host(x: Tensor) -> Tensor:
    """The tensor on the CPU; from a GPU into pinned memory."""
    target = pinned_memory(x.shape, x.dtype) if x.device.type == "cuda" else None
    return x.cpu() if target is None else target.copy_(x)


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """Runs copies and small work on a side stream, in parallel with the GPU's queue.

    Its results are complete when the context ends.
    """
    if device.type != "cuda":
        yield
        return
    stream = _side_stream(device)
    # the device too: restoring another device's stream would create a CUDA context there, which takes memory
    with torch.cuda.device(device), torch.cuda.stream(stream):
        yield
        stream.synchronize()


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # one for all: freed memory is reused in its own stream alone
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


def release_memory() -> None:
    """Frees the allocator's cache, for other programs and for other GPU work of this process."""
    with suppress(RuntimeError):  # from a GPU that has failed or is recording
        torch.cuda.empty_cache()
