"""What a device computes in, and on how many threads."""

from contextlib import AbstractContextManager

import torch

from brats_infer.system.cores import thread_limit

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device) -> AbstractContextManager[None]:
    """For training, which has no need to scale its gradients in bf16: where the device computes in it natively."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else computes_in_bf16()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def precision(device: torch.device) -> str:
    """What a trained network computes in, of `DTYPES`.

    fp16 on a GPU, as it is nearer to float32 than bf16 (docs/experiments.md); on the CPU bf16 where it computes in it
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
