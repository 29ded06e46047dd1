"""Optimisers and learning rates."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from brats_infer.train.choices import Optimizer, Schedule
from brats_infer.train.config import TrainConfig

MOMENTUM = 0.99
POLY_EXPONENT = 0.9


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a run, over the parameters that are not frozen."""
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case Optimizer.ADAM:
            return torch.optim.Adam(parameters, rate, weight_decay=decay, amsgrad=config.amsgrad)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, amsgrad=config.amsgrad)
        case Optimizer.SGD:
            return torch.optim.SGD(parameters, rate, momentum=MOMENTUM, weight_decay=decay, nesterov=True)


def learning_rate(config: TrainConfig, step: int, epoch_steps: int) -> float:
    """The rate of a step, counted from 0; an epoch is as many patches as there are training cases."""
    match config.schedule:
        case Schedule.COSINE:
            share = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        case Schedule.EXPONENTIAL:
            share = config.decay ** (step // epoch_steps)
        case Schedule.POLY:
            share = (1 - step / config.steps) ** POLY_EXPONENT
    return config.learning_rate * share * min(1.0, (step + 1) / max(1, config.warm_up))
