"""Whether a GPU works, and which errors mean that it has failed."""

import logging
import os

import torch
from torch.nn import functional

from brats_infer.errors import is_out_of_memory, printable

log = logging.getLogger(__name__)

GPU_FAULTS = (
    *("CUDA error", "CUDA driver", "cuDNN error", "cuDNN Frontend error", "CUDNN_STATUS", "cuBLAS error"),
    *("CUBLAS_STATUS", "INTERNAL ASSERT FAILED"),
)


def is_gpu_fault(error: Exception) -> bool:
    """Whether a GPU failed for another reason than memory. CUDA rarely recovers from such a fault in a process."""
    known = isinstance(error, RuntimeError) and any(text in str(error) for text in GPU_FAULTS)
    return known and not is_out_of_memory(error)


def try_out(device: torch.device) -> None:
    """Runs the networks' layers on small tensors, in fp16 and channels_last_3d as on a GPU.

    Raises RuntimeError if torch has no kernels for the device, or the device has no free memory.
    """
    channels = 16
    x = torch.ones(1, channels, 4, 4, 4, dtype=torch.float16, device=device).to(memory_format=torch.channels_last_3d)
    weight = torch.ones(channels, channels, 2, 2, 2, dtype=torch.float16, device=device)
    x = functional.conv3d(x, weight)
    one, zero = torch.ones(channels, device=device), torch.zeros(channels, device=device)
    x = functional.batch_norm(x, None, None, one, zero, training=True)
    functional.conv_transpose3d(x, weight, stride=2).cpu()


def own_gpu() -> int:
    """The GPU index of this process: torchrun starts several processes on a machine, and each takes one GPU."""
    rank = os.environ.get("LOCAL_RANK", "")
    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(rank) % usable if rank.isdecimal() and usable else 0


def fault_of(index: int) -> str:
    """Why the CUDA device `index` cannot be used; empty if it works."""
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
