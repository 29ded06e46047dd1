"""Our training steps that `train.py` compares; its docstring says what they are."""

import copy
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from brats_infer.network.devices import autocast
from brats_infer.train.checkpoint import Run
from brats_infer.train.data.dataset import Split, TrainingCase
from brats_infer.train.data.patches import draw_batch
from brats_infer.train.distributed import heads_of
from brats_infer.train.loop import take_step
from brats_infer.train.monitor.validation import ALONE
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.step.losses import deep_supervision_loss, loss_weights, weighted
from brats_infer.train.step.optimisers import make_optimizer
from model.unet import UNet


@dataclass(frozen=True)
class Setting:
    """What all have in common."""

    config: TrainConfig
    device: torch.device
    case: TrainingCase
    folder: Path
    """For files that a peer reads its data from."""

    def network(self) -> UNet:
        torch.manual_seed(0)
        return UNet(self.config.network).to(self.device).train()

    def labels(self) -> Tensor:
        """(1, X, Y, Z) uint8."""
        return self.case.regions.sum(0, keepdim=True).to(torch.uint8)


class Contender(Protocol):
    """One way to train."""

    name: str

    def draw(self) -> Any:
        """A batch, augmented."""

    def loss(self, batch: Any) -> Tensor:
        """The network's forward pass and the loss."""

    def step(self) -> object:
        """Draws, and trains on what was drawn."""


class Ours:
    """`brats_infer.train`."""

    name = "ours"

    def __init__(self, setting: Setting) -> None:
        self.config, self.device = setting.config, setting.device
        self.split = Split((setting.case,), ())
        self.terms = weighted(loss_weights(self.config.options.loss))
        network = setting.network()
        optimizer = make_optimizer(self.config.options, network.parameters())
        self.run = Run(network, copy.deepcopy(network), optimizer, ALONE, heads_of(network, ALONE))
        self.seeds = itertools.count()

    def draw(self) -> tuple[Tensor, Tensor]:
        rngs = [np.random.default_rng(next(self.seeds)) for _ in range(self.config.options.batch)]
        return draw_batch(self.split, self.config, rngs, self.device)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, targets = batch
        with autocast(self.device):
            heads = self.run.heads(images)
        return deep_supervision_loss(heads, targets, self.terms)

    def step(self) -> float:
        rate = self.config.options.learning_rate
        return take_step(self.run, self.config, self.split, self.terms, rate, self.device)


class Compiled(Ours):
    """Ours through `torch.compile`; the first round, which does not count, compiles."""

    name = "ours, compiled"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.run.heads = torch.compile(self.run.heads)


class ChannelsLast(Ours):
    """Ours in the memory layout `channels_last_3d`."""

    name = "ours, channels last"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.run.network.to(memory_format=torch.channels_last_3d)

    def draw(self) -> tuple[Tensor, Tensor]:
        images, targets = super().draw()
        return images.to(memory_format=torch.channels_last_3d), targets
