"""The precision of a device, and its number of threads."""

from contextlib import AbstractContextManager

import torch

from brats_infer.system.cores import thread_limit

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """bf16 for training, if the device supports it natively; bf16 needs no gradient scaling."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else computes_in_bf16()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def precision(device: torch.device) -> str:
    """The precision of inference, a key of `DTYPES`.

    fp16 on a GPU: it is closer to float32 than bf16 (docs/experiments.md). On the CPU bf16, if it is native there.
    """
    if device.type == "cuda":
        return "fp16"
    return "bf16" if computes_in_bf16() else "float32"


def computes_in_bf16() -> bool:
    """Whether the processor has instructions for bf16."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def limit_threads() -> None:
    """Lowers torch's number of CPU threads to `thread_limit`; never raises it."""
    if limit := thread_limit():
        torch.set_num_threads(min(limit, torch.get_num_threads()))
