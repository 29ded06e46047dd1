"""Where the networks compute: a device that works, and where to go when it is too small."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from brats_infer.errors import UsageError, printable
from brats_infer.system.cores import thread_limit

T = TypeVar("T")

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Failed to allocate",
    "bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",  # cuDNN, where no workspace is left for any
)
"""What torch and OpenVINO say in a plain RuntimeError where the host's, the driver's or their own allocator fails."""
GPU_FAULTS = (
    *("CUDA error", "CUDA driver", "cuDNN error", "cuDNN Frontend error", "CUDNN_STATUS", "cuBLAS error"),
    *("CUBLAS_STATUS", "INTERNAL ASSERT FAILED"),
)


@dataclass(frozen=True)
class Placement:
    """Where a case is computed."""

    networks: torch.device
    sums: torch.device
    note: str = ""
    """What its user is told."""


def pick_device(name: str) -> torch.device:
    """auto|cpu|cuda|cuda:N -> a device that has been tried. `auto` goes to the CPU, aloud, where no GPU works.

    Of several processes that torchrun started on a machine, each takes a GPU of its own.
    Raises UsageError if a CUDA device was asked for and cannot be used.
    """
    known = re.fullmatch(r"auto|cpu|cuda(?::(0|[1-9]\d*))?", name, re.ASCII)
    if not known:
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return CPU
    index = int(known[1]) if known[1] else _own_gpu()
    fault = _fault_of(index)
    if fault and name != "auto":
        raise UsageError(f"--device {name}: {fault}: choose --device auto or cpu")
    if fault:
        log.warning("warning: %s: the CPU is used, which takes longer (--device cpu if that is meant)", fault)
        return CPU
    return torch.device("cuda", index)


def try_out(device: torch.device) -> None:
    """Runs what networks are made of, as they run on a GPU: small, in fp16 and channels_last_3d.

    Raises RuntimeError where torch has no kernels for the device, or it has no room.
    """
    channels = 16
    x = torch.ones(1, channels, 4, 4, 4, dtype=torch.float16, device=device).to(memory_format=torch.channels_last_3d)
    weight = torch.ones(channels, channels, 2, 2, 2, dtype=torch.float16, device=device)
    x = functional.conv3d(x, weight)
    one, zero = torch.ones(channels, device=device), torch.zeros(channels, device=device)
    x = functional.batch_norm(x, None, None, one, zero, training=True)
    functional.conv_transpose3d(x, weight, stride=2).cpu()


def placements(device: torch.device) -> list[Placement]:
    """What to try for a case, each needing less of the device's memory than the one before."""
    if device == CPU:
        return [Placement(CPU, CPU)]
    return [
        Placement(device, device),
        Placement(device, CPU, note="too large for the GPU's memory: its sums were kept on the CPU"),
        Placement(CPU, CPU, note="too large for the GPU's memory: it was computed on the CPU"),
    ]


def pinned_memory(shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
    """Memory on the host from and to which a GPU copies several times as fast; None where there is too little of it."""
    try:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    except RuntimeError as error:
        log.debug("memory could not be pinned", exc_info=error)
        return None


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


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means too little memory, on the device or the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def is_gpu_fault(error: Exception) -> bool:
    """Whether a GPU failed at something else than memory. Of most such faults CUDA does not recover in a process."""
    known = isinstance(error, RuntimeError) and any(text in str(error) for text in GPU_FAULTS)
    return known and not is_out_of_memory(error)


def despite_the_gpu(work: Callable[[], T], again: Callable[[], T]) -> T:
    """What `work` gives, or `again` where the GPU has failed: on one that stays so, networks compute on the CPU."""
    try:
        return work()
    except RuntimeError as error:
        if not is_gpu_fault(error):
            raise
        log.debug("the GPU failed", exc_info=error)
    return again()


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """For training, which has no need to scale its gradients in bf16: where the device computes in it natively."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else computes_in_bf16()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def precision(device: torch.device) -> str:
    """What a trained network computes in, of `DTYPES`.

    fp16 on a GPU, as it is nearer to float32 than bf16 (docs/performance.md); on the CPU bf16 where it computes in it
    natively.
    """
    if device.type == "cuda":
        return "fp16"
    return "bf16" if computes_in_bf16() else "float32"


def computes_in_bf16() -> bool:
    """Whether the processor has instructions for it."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def limit_threads() -> None:
    """Lets torch have no more threads on the CPU than `thread_limit` says, nor more than it has."""
    if limit := thread_limit():
        torch.set_num_threads(min(limit, torch.get_num_threads()))


def _own_gpu() -> int:
    rank = os.environ.get("LOCAL_RANK", "")
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(rank) % usable if rank.isdecimal() and usable else 0


def _fault_of(index: int) -> str:
    """Why the CUDA device of that number cannot be used, or nothing."""
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= usable:
        return f"this machine offers {usable} usable CUDA devices"
    try:
        try_out(torch.device("cuda", index))
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as error:
        log.debug("GPU %d failed", index, exc_info=error)
        reason = printable(str(error).strip().partition("\n")[0])
        return f"torch {torch.__version__} cannot compute on the GPU ({reason})"
    return ""
