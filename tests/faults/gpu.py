"""The real command on a GPU that is not there: too small, or of a kind that torch has no kernels for."""

import sys

STUB = """
import torch
from brats_infer.network.gpu import faults, lanes
from brats_infer.network import loading
from brats_infer import cohort
from brats_infer.cli import main
from model.unet import UNet

answers = {answers!r}
forward = UNet.forward

def pass_through(network, x):
    if answers:
        raise torch.OutOfMemoryError(answers.pop(0))
    return forward(network, x)

def no_kernel(_):
    raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

if {usable}:
    UNet.forward = pass_through
    loading.openvino_works = lambda: False  # its memory is the host's, which these answers stand for in the end
    cohort.pick_device = lambda _: torch.device("cpu:0")  # to the fallback another device, to torch the CPU
    lanes.COMPUTING = 1  # so that the answers are the first case's
else:
    torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
    faults.try_out = no_kernel
main()
"""
MESSAGE = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"


def too_small(passes: int) -> tuple[str, ...]:
    """A program whose GPU has no room for the first passes through a network."""
    return (sys.executable, "-c", STUB.format(answers=[MESSAGE] * passes, usable=True))


def without_kernels() -> tuple[str, ...]:
    """A program whose GPU cannot compute."""
    return (sys.executable, "-c", STUB.format(answers=[], usable=False))
