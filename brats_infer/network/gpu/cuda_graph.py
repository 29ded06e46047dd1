"""Batches of one size that come again and again, computed as one CUDA graph.

Python starts some 140 kernels for a window or a brain, and before each waits for its lock while other threads read and
write cases; of a graph it starts one. What that gains is in docs/experiments.md.
"""

import logging
from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor

from brats_infer.network.gpu.memory import release_memory

log = logging.getLogger(__name__)

OFTEN = 9  # times one after the other: not a volume in eight mirror images
Function = Callable[[Tensor], Tensor]
_living: "WeakSet[Recording]" = WeakSet()


class Recording:
    """A CUDA graph of a function on batches of one size, and the memory that it reads and writes."""

    _input: Tensor
    _graph: torch.cuda.CUDAGraph
    _stream: torch.cuda.Stream

    def __init__(self, function: Function, batch: Tensor) -> None:
        device = batch.device
        function(batch)  # what a thread sets up with its first pass cannot be recorded
        # of all one memory: they run one after the other, and an answer is used up before the next one is asked for
        other = next((living for living in _living if living._input.device == device), None)
        pool = other._graph.pool() if other else None
        self._stream = other._stream if other else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._input = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        graph = torch.cuda.graph(  # "thread_local": other threads may ask CUDA for memory meanwhile
            self._graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
        )
        before = torch.cuda.current_stream(device)
        with torch.cuda.device(device), torch.cuda.stream(before), graph:  # back on it where recording fails
            self._output = function(self._input)
        _living.add(self)

    def __call__(self, batch: Tensor) -> Tensor:
        self._input.copy_(batch)
        self._graph.replay()
        return self._output

    def end(self) -> None:
        """Once nothing is computed in it any more, gives back the memory, but for what other recordings share."""
        torch.cuda.synchronize(self._input.device)
        _living.discard(self)
        del self._graph, self._input, self._output
        release_memory()


def recorded(function: Function, batch: Tensor) -> Function | None:
    """The function for batches of this size alone; its next answer is written over this one.

    None on the CPU, on a GPU of little memory, and where it fails: that a GPU has failed is noticed by what is computed
    next.
    """
    if batch.device.type != "cuda" or not _has_room(batch.device):
        return None
    try:
        return Recording(function, batch)
    except RuntimeError as error:
        log.debug("no CUDA graph could be recorded", exc_info=error)
    release_memory()  # not above: the error holds on to what it was raised over
    return None


def _has_room(device: torch.device) -> bool:
    """Whether twice as much as was ever needed would be there: a graph holds on to the memory that it needs."""
    return 2 * torch.cuda.max_memory_allocated(device) <= torch.cuda.get_device_properties(device).total_memory


class Recorder:
    """Calls one function on batches of one device, and has it recorded for a size that comes often."""

    def __init__(self, record: Callable[[Function, Tensor], Function | None] = recorded) -> None:
        self._record = record
        self._shape: torch.Size | None = None
        self._times = 0
        self._recording: Function | None = None

    def __call__(self, function: Function, batch: Tensor) -> Tensor:
        """What the function says, in memory of its own."""
        if batch.shape != self._shape:
            if isinstance(self._recording, Recording):
                self._recording.end()
            self._shape, self._times, self._recording = batch.shape, 0, None
        self._times += 1
        if self._times == OFTEN:
            self._recording = self._record(function, batch)
        return self._recording(batch).clone() if self._recording else function(batch)
