"""What turns a batch into probabilities: torch on any device, OpenVINO on the CPU where it is installed."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from brats_infer.devices import CPU, DTYPES, precision
from model.unet import UNet, UNetConfig

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network that is ready to compute."""

    @property
    def config(self) -> UNetConfig: ...

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, X, Y, Z) float32 -> sigmoids (B, R, X, Y, Z) float32, on the batch's device.

        Of any size: the network sees it with background at the end of each axis, as `padded_shape` says. The engine may
        write its next answer over this one.
        """
        ...


def padded_shape(shape: Sequence[int], config: UNetConfig) -> tuple[int, int, int]:
    """As it is where it fits the network; else the next larger multiples, two at least.

    Of one voxel at the bottom, instance norm would make nothing.
    """
    least = 1 if config.fits(shape) else 2
    x, y, z = (max(least, -(-n // config.multiple)) * config.multiple for n in shape)
    return x, y, z


@dataclass(frozen=True)
class TorchEngine:
    """The network as it is, in the device's `precision`; what overflows fp16 is computed again in float32.

    cuDNN's float32 is TF32 where the GPU has it, which has the digits of fp16 and the range of float32.
    """

    network: UNet
    """On `device`, in evaluation mode."""
    device: torch.device = CPU

    @property
    def config(self) -> UNetConfig:
        return self.network.config

    def __call__(self, batch: Tensor) -> Tensor:
        shape = batch.shape[2:]
        extra = [to - n for to, n in zip(padded_shape(shape, self.config), shape, strict=True)]
        padded = functional.pad(batch.to(self.device), [p for n in reversed(extra) for p in (0, n)])
        dtype = DTYPES[precision(self.device)]
        logits = self._logits(padded, dtype)
        if dtype == torch.float16 and not logits.isfinite().all():  # norms spread an infinity to all there is
            logits = self._logits(padded, torch.float32)
        return torch.sigmoid(logits[:, :, : shape[0], : shape[1], : shape[2]].float()).to(batch.device)

    def _logits(self, padded: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: Tensor = self.network(padded)
        return logits


def torch_engine(network: UNet, device: torch.device) -> Engine:
    """The network; on another device than the CPU a copy of it, as a case may go back to the CPU."""
    return TorchEngine(network if device == CPU else copy.deepcopy(network).to(device), device)


def fastest_engine(network: UNet, device: torch.device) -> Engine:
    """OpenVINO on the CPU where it is installed and works, else torch."""
    if engine_name(device) == "OpenVINO":
        from brats_infer.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(network)
    return torch_engine(network, device)


def engine_name(device: torch.device) -> str:
    """Which of them computes on a device."""
    return "OpenVINO" if device == CPU and openvino_works() else "torch"


@cache
def openvino_works() -> bool:
    """Whether OpenVINO can be imported; one that is there and fails is told, and left alone."""
    if find_spec("openvino") is None:
        return False
    try:
        import brats_infer.openvino_engine  # noqa: F401 - to see whether it loads
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("warning: OpenVINO is installed but does not load (%s): torch is used, which is slower", error)
        return False
    return True
