"""Computes repeated batches of one size as a CUDA graph.

Python launches some 140 kernels for a window or a brain. Before each launch it waits for the GIL, which the threads
that read and write cases use too. A graph is one launch. docs/experiments.md has the gain.
"""

import logging
from collections.abc import Callable
from weakref import WeakSet

import torch
from torch import Tensor

from brats_infer.network.gpu.memory import release_memory

log = logging.getLogger(__name__)

OFTEN = 9  # batches of one size in a row, more than one volume's eight mirror images
Function = Callable[[Tensor], Tensor]
_living: "WeakSet[Recording]" = WeakSet()


class Recording:
    """A CUDA graph of a function on batches of one size, and the memory that it reads and writes."""

    _input: Tensor
    _graph: torch.cuda.CUDAGraph
    _stream: torch.cuda.Stream

    def __init__(self, function: Function, batch: Tensor) -> None:
        device = batch.device
        function(batch)  # a thread's first pass sets up state that cannot be recorded
        # one memory pool for all graphs: they run one at a time, and each result is copied before the next run
        other = next((living for living in _living if living._input.device == device), None)
        pool = other._graph.pool() if other else None
        self._stream = other._stream if other else torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._input = batch.clone()
        self._graph = torch.cuda.CUDAGraph()
        graph = torch.cuda.graph(  # "thread_local": other threads may allocate meanwhile
            self._graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
        )
        before = torch.cuda.current_stream(device)
        with torch.cuda.device(device), torch.cuda.stream(before), graph:  # restored if recording fails
            self._output = function(self._input)
        _living.add(self)

    def __call__(self, batch: Tensor) -> Tensor:
        self._input.copy_(batch)
        self._graph.replay()
        return self._output

    def end(self) -> None:
        """Waits for the GPU, then frees the memory that no other recording shares."""
        torch.cuda.synchronize(self._input.device)
        _living.discard(self)
        del self._graph, self._input, self._output
        release_memory()


def recorded(function: Function, batch: Tensor) -> Function | None:
    """The function as a CUDA graph for batches of this size alone; each result overwrites the previous result.

    None on the CPU, on a GPU with little memory, and if recording fails. The next computation reports a failed GPU.
    """
    if batch.device.type != "cuda" or not _has_room(batch.device):
        return None
    try:
        return Recording(function, batch)
    except RuntimeError as error:
        log.debug("no CUDA graph could be recorded", exc_info=error)
    release_memory()  # outside the handler: the error keeps tensors alive
    return None


def _has_room(device: torch.device) -> bool:
    """Whether the GPU has twice the peak memory so far: a graph keeps its own memory."""
    return 2 * torch.cuda.max_memory_allocated(device) <= torch.cuda.get_device_properties(device).total_memory


class Recorder:
    """Calls a function on batches of one device, and records it as a CUDA graph for a repeated size."""

    def __init__(self, record: Callable[[Function, Tensor], Function | None] = recorded) -> None:
        self._record = record
        self._shape: torch.Size | None = None
        self._times = 0
        self._recording: Function | None = None

    def __call__(self, function: Function, batch: Tensor) -> Tensor:
        """The function's result, in memory of its own."""
        if batch.shape != self._shape:
            if isinstance(self._recording, Recording):
                self._recording.end()
            self._shape, self._times, self._recording = batch.shape, 0, None
        self._times += 1
        if self._times == OFTEN:
            self._recording = self._record(function, batch)
        return self._recording(batch).clone() if self._recording else function(batch)
