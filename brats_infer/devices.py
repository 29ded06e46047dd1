"""Where the networks compute: a device that works, and where to go when it is too small."""

import logging
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch.nn import functional

from brats_infer.errors import UsageError, printable

log = logging.getLogger(__name__)

CPU = torch.device("cpu")
BF16 = "bf16"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says in a plain RuntimeError where the host's or the driver's own allocator fails."""


@dataclass(frozen=True)
class Placement:
    """Where a case is computed."""

    networks: torch.device
    sums: torch.device
    note: str = ""
    """What its user is told."""


def pick_device(name: str) -> torch.device:
    """auto|cpu|cuda|cuda:N -> a device that has been tried. `auto` goes to the CPU, aloud, where no GPU works.

    Raises UsageError if a CUDA device was asked for and cannot be used.
    """
    known = re.fullmatch(r"auto|cpu|cuda(?::(0|[1-9]\d*))?", name, re.ASCII)
    if not known:
        raise UsageError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return CPU
    fault = _fault_of(int(known[1] or 0))
    if fault and name != "auto":
        raise UsageError(f"--device {name}: {fault}: choose --device auto or cpu")
    if fault:
        log.warning("warning: %s: the CPU is used, which takes longer (--device cpu if that is meant)", fault)
        return CPU
    return torch.device("cuda" if name == "auto" else name)


def try_out(device: torch.device) -> None:
    """Runs a small convolution. Raises RuntimeError where torch has no kernels for the device, or it has no room."""
    functional.conv3d(torch.ones(1, 1, 3, 3, 3, device=device), torch.ones(1, 1, 3, 3, 3, device=device)).cpu()


def placements(device: torch.device) -> list[Placement]:
    """What to try for a case, each needing less of the device's memory than the one before.

    No step has smaller batches: a batch is a single window from the start.
    """
    if device == CPU:
        return [Placement(CPU, CPU)]
    return [
        Placement(device, device),
        Placement(device, CPU, "is too large for the GPU's memory: its sums were kept on the CPU"),
        Placement(CPU, CPU, "is too large for the GPU's memory: it was computed on the CPU"),
    ]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means too little memory, on the device or the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """In the device's `precision`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision(device) == BF16)


def precision(device: torch.device) -> str:
    """bf16 where the device computes in it natively, else float32."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return BF16 if native else "float32"


def _fault_of(index: int) -> str:
    """Why the CUDA device of that number cannot be used, or nothing."""
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= usable:
        return f"this machine offers {usable} usable CUDA devices"
    try:
        try_out(torch.device("cuda", index))
    except RuntimeError as error:
        log.debug("GPU %d failed", index, exc_info=error)
        reason = printable(str(error).strip().partition("\n")[0])
        return f"torch {torch.__version__} cannot compute on the GPU ({reason})"
    return ""
