"""Optimisers and learning rates."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from brats_infer.train.choices import Optimizer, Schedule, TrainOptions

MOMENTUM = 0.99
POLY_EXPONENT = 0.9


def make_optimizer(options: TrainOptions, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a run for the parameters that are not frozen."""
    rate, decay = options.learning_rate, options.weight_decay
    match options.optimizer:
        case Optimizer.ADAM:
            return torch.optim.Adam(parameters, rate, weight_decay=decay, amsgrad=options.amsgrad)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, amsgrad=options.amsgrad)
        case Optimizer.SGD:
            return torch.optim.SGD(parameters, rate, momentum=MOMENTUM, weight_decay=decay, nesterov=True)


def learning_rate(options: TrainOptions, step: int, epoch_steps: int) -> float:
    """The learning rate of a step; steps count from 0, an epoch has `epoch_steps` of them."""
    match options.schedule:
        case Schedule.COSINE:
            share = 0.5 * (1 + math.cos(math.pi * step / options.steps))
        case Schedule.EXPONENTIAL:
            share = options.decay ** (step // epoch_steps)
        case Schedule.POLY:
            share = (1 - step / options.steps) ** POLY_EXPONENT
    return options.learning_rate * share * min(1.0, (step + 1) / max(1, options.warm_up))
