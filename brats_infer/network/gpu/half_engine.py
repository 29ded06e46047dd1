"""A network on a GPU: fp16, channels_last_3d, repeated batches of one size as a CUDA graph."""

import copy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from brats_infer.network.engines import TorchEngine
from brats_infer.network.gpu.cuda_graph import Recorder
from brats_infer.network.windows import Engine
from model.unet import UNet


@dataclass(frozen=True)
class HalfEngine(TorchEngine):
    """The network in fp16 and channels_last_3d, the format of a GPU's tensor cores.

    The result is NaN where fp16 overflows. Test for NaN once at the end: each test waits for the GPU.
    """

    half: UNet = field(kw_only=True)
    """The network converted by `in_half`."""
    recorder: Recorder = field(default_factory=Recorder, kw_only=True, repr=False)

    def __call__(self, batch: Tensor) -> Tensor:
        if batch.device != self.device:  # sums on the CPU: the GPU has no memory for a graph
            return super().__call__(batch)
        return self._padded(batch, partial(self.recorder, self._result))  # most brains are padded to one size

    def _logits(self, padded: Tensor) -> Tensor:
        samples = (one.to(torch.float16, memory_format=torch.channels_last_3d) for one in torch.split(padded, 1))
        return torch.cat([self.half(one) for one in samples])


def half_engine(network: UNet, device: torch.device) -> Engine:
    """A copy of the network on a GPU, as a case may go back to the CPU; a `TorchEngine` on other devices."""
    there = copy.deepcopy(network).to(device)
    return HalfEngine(there, device, half=in_half(there)) if device.type == "cuda" else TorchEngine(there, device)


def full_precision(engine: Engine) -> Engine:
    """The same network in float32 if it computes in fp16. cuDNN uses TF32, with the digits of fp16."""
    return TorchEngine(engine.network, engine.device, torch.float32) if isinstance(engine, HalfEngine) else engine


class SampleNorm(nn.Module):
    """Instance norm of one sample, computed as batch norm: only batch norm keeps channels_last_3d."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, X, Y, Z), of more than one voxel."""
        return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)


def in_half(network: UNet) -> UNet:
    """A copy in fp16 and channels_last_3d, for one sample at a time; its norms sum in float32."""
    half = copy.deepcopy(network)
    nn.Module.to(half, memory_format=torch.channels_last_3d)  # type: ignore[call-overload] # missing in its types
    for name, layer in list(half.named_modules()):
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.half()
        elif isinstance(layer, nn.InstanceNorm3d):
            half.set_submodule(name, SampleNorm(layer))
    return half
