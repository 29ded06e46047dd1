"""The torch engine, for any device; for the CPU see `openvino_engine`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from brats_infer.network.devices import CPU, DTYPES, precision
from model.config import UNetConfig
from model.unet import UNet


def padded_shape(shape: Sequence[int], config: UNetConfig) -> tuple[int, int, int]:
    """`shape` if it fits the network; else the next larger multiples, at least two on each side.

    Instance norm needs more than one voxel at the bottom.
    """
    least = 1 if config.fits(shape) else 2
    x, y, z = (max(least, -(-n // side)) * side for n, side in zip(shape, config.multiples, strict=True))
    return x, y, z


@dataclass(frozen=True)
class TorchEngine:
    """The unchanged network in torch."""

    network: UNet
    """On `device`, in evaluation mode."""
    device: torch.device = CPU
    dtype: torch.dtype | None = None
    """None: the device's `precision`."""

    @property
    def config(self) -> UNetConfig:
        return self.network.config

    def __call__(self, batch: Tensor) -> Tensor:
        return self._padded(batch, self._result)

    def _padded(self, batch: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        shape = batch.shape[2:]
        extra = [to - n for to, n in zip(padded_shape(shape, self.config), shape, strict=True)]
        padded = functional.pad(batch.to(self.device), [p for n in reversed(extra) for p in (0, n)])
        return compute(padded)[:, :, : shape[0], : shape[1], : shape[2]].to(batch.device)

    def _result(self, padded: Tensor) -> Tensor:
        logits = self._logits(padded).float()
        return logits if self.config.logits else torch.sigmoid(logits)

    def _logits(self, padded: Tensor) -> Tensor:
        dtype = self.dtype or DTYPES[precision(self.device)]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits: Tensor = self.network(padded)
        return logits
