"""Several processes that train one network (torchrun): rank, shares of the work, sums over all processes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from socket import gethostname
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.nn.functional import all_reduce
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from brats_infer.errors import UsageError
from model.unet import UNet

TORCHRUN = ("WORLD_SIZE", "RANK", "MASTER_PORT")
T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """The processes of one training run: one, unless torchrun started more."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """The numbers of the pieces of work that this process does, of `total` pieces."""
        return range(self.rank, total, self.count)

    def gather(self, mine: dict[str, T]) -> dict[str, T]:
        """The results of all processes, merged."""
        if self.count == 1:
            return mine
        parts: list[dict[str, T]] = [{} for _ in range(self.count)]
        distributed.all_gather_object(parts, mine)
        return {key: value for part in parts for key, value in part.items()}

    def meet(self) -> None:
        """Waits for all processes. Raises RuntimeError if one has ended; a wait on a GPU would last for ever."""
        if self.count > 1:
            distributed.all_reduce(torch.zeros(1))

    def mean(self, value: Tensor) -> float:
        """The mean over all processes of a scalar."""
        return float(sum_over_workers(value.detach().clone())) / self.count


class Heads(nn.Module):
    """`UNet.forward_heads` as a module, for DistributedDataParallel to wrap."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.network.forward_heads(x)


def heads_of(network: UNet, workers: Workers) -> nn.Module:
    """The module that computes a network's heads. With several workers the backward pass averages the gradients."""
    heads = Heads(network)
    return heads if workers.count == 1 else DistributedDataParallel(heads)


def sum_over_workers(x: Tensor) -> Tensor:
    """The sum over all processes, through which gradients flow. With one process: the tensor itself."""
    if not distributed.is_initialized():
        return x
    summed: Tensor = all_reduce(x)  # type: ignore[no-untyped-call]
    return summed


@contextmanager
def workers_of(device: torch.device) -> Iterator[Workers]:
    """Joins the processes that torchrun started, by its environment variables, and leaves them at the end.

    Raises UsageError if one of these variables is missing.
    """
    if os.environ.get("WORLD_SIZE", "") in ("", "1"):
        yield Workers()
        return
    missing = [name for name in TORCHRUN if not os.environ.get(name, "").isdecimal()]
    missing += [] if os.environ.get("MASTER_ADDR") else ["MASTER_ADDR"]
    if missing:
        raise UsageError(f"WORLD_SIZE is set, but not {' and '.join(missing)}: start several processes with torchrun")
    count = int(os.environ["WORLD_SIZE"])
    store, rank, _ = next(rendezvous("env://"))
    # torchrun keeps one store over its restarts (torch 2.13): a prefix hides the addresses of dead processes
    store = PrefixStore(f"start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL gathers into its memory
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count)
    try:
        if device.type == "cuda":
            gpus: list[object] = [None] * count
            distributed.all_gather_object(gpus, (gethostname(), str(torch.cuda.get_device_properties(device).uuid)))
            check_gpus(gpus)
        yield Workers(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def check_gpus(gpus: Sequence[object]) -> None:
    """Raises UsageError if two processes use the same GPU, which NCCL refuses; one entry a process."""
    if len(set(gpus)) < len(gpus):
        raise UsageError(f"{len(gpus)} processes have {len(set(gpus))} GPUs: start one process a GPU")


def is_first() -> bool:
    """Whether this process writes messages for all."""
    return os.environ.get("RANK", "0") == "0"
