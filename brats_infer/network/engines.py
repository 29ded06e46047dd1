"""What turns a batch into probabilities: torch on any device, OpenVINO on the CPU where it is installed."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from brats_infer.network.devices import CPU, DTYPES, precision
from brats_infer.network.gpu.cuda_graph import Function, Recorder
from model.unet import UNet, UNetConfig

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A network that is ready to compute."""

    @property
    def config(self) -> UNetConfig: ...

    def __call__(self, batch: Tensor) -> Tensor:
        """(B, C, X, Y, Z) float32 -> sigmoids (B, R, X, Y, Z) float32, on the batch's device.

        Of any size: the network sees it with background at the end of each axis, as `padded_shape` says. The answer may
        be written to; the engine may write its next one over it.
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
    """The network as it is."""

    network: UNet
    """On `device`, in evaluation mode."""
    device: torch.device = CPU
    dtype: torch.dtype | None = None
    """None: the processor's `precision`."""

    @property
    def config(self) -> UNetConfig:
        return self.network.config

    def __call__(self, batch: Tensor) -> Tensor:
        return self._padded(batch, self._probabilities)

    def _padded(self, batch: Tensor, compute: Function) -> Tensor:
        shape = batch.shape[2:]
        extra = [to - n for to, n in zip(padded_shape(shape, self.config), shape, strict=True)]
        padded = functional.pad(batch.to(self.device), [p for n in reversed(extra) for p in (0, n)])
        return compute(padded)[:, :, : shape[0], : shape[1], : shape[2]].to(batch.device)

    def _probabilities(self, padded: Tensor) -> Tensor:
        return torch.sigmoid(self._logits(padded).float())

    def _logits(self, padded: Tensor) -> Tensor:
        dtype = self.dtype or DTYPES[precision(self.device)]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: Tensor = self.network(padded)
        return logits


@dataclass(frozen=True)
class HalfEngine(TorchEngine):
    """The network in fp16 and channels_last_3d, as a GPU's matrix units want it (measured in docs/performance.md).

    Its answer is NaN where it overflows, as norms make that of an infinity: to be looked at when all is computed, since
    every look waits for the GPU.
    """

    half: UNet = field(kw_only=True)
    """What `in_half` makes of the network."""
    recorder: Recorder = field(default_factory=Recorder, kw_only=True, repr=False)

    def __call__(self, batch: Tensor) -> Tensor:
        if batch.device != self.device:  # where its sums are on the CPU, the GPU's memory is too short
            return super().__call__(batch)
        return self._padded(batch, partial(self.recorder, self._probabilities))  # of most brains these are of one size

    def _logits(self, padded: Tensor) -> Tensor:
        samples = (one.to(torch.float16, memory_format=torch.channels_last_3d) for one in torch.split(padded, 1))
        return torch.cat([self.half(one) for one in samples])


def exact(engine: Engine) -> Engine:
    """The same network in float32 where it computes in fp16; of cuDNN it is TF32, with the digits of fp16."""
    return TorchEngine(engine.network, engine.device, torch.float32) if isinstance(engine, HalfEngine) else engine


class SampleNorm(nn.Module):
    """Instance norm of one sample, as the batch norm that it then is, which alone leaves channels_last_3d as it is."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, X, Y, Z), of more than one voxel."""
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def in_half(network: UNet) -> UNet:
    """A copy that takes one sample at a time, in fp16 and channels_last_3d; its norms add up in float32."""
    half = copy.deepcopy(network)
    nn.Module.to(half, memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # which its types leave out
    for name, layer in list(half.named_modules()):
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.half()
        elif isinstance(layer, nn.InstanceNorm3d):
            half.set_submodule(name, SampleNorm(layer))
    return half


def torch_engine(network: UNet, device: torch.device) -> Engine:
    """The network; on another device than the CPU a copy of it, as a case may go back to the CPU."""
    if device == CPU:
        return TorchEngine(network)
    there = copy.deepcopy(network).to(device)
    return HalfEngine(there, device, half=in_half(there)) if device.type == "cuda" else TorchEngine(there, device)


def fastest_engine(network: UNet, device: torch.device) -> Engine:
    """OpenVINO on the CPU where it is installed and works, else torch."""
    if engine_name(device) == "OpenVINO":
        from brats_infer.network.openvino_engine import OpenVinoEngine

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
        import brats_infer.network.openvino_engine  # noqa: F401 - to see whether it loads
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("warning: OpenVINO is installed but does not load (%s): torch is used, which is slower", error)
        return False
    return True
