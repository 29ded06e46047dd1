"""Rates against torch's own schedulers, and what each optimiser is."""

import pytest
import torch
from torch import nn

from brats_infer.train.choices import Optimizer, Schedule, TrainOptions
from brats_infer.train.step.optimisers import learning_rate, make_optimizer

OPTIONS = TrainOptions(steps=40, learning_rate=0.5, warm_up=0)


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def sgd() -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)


def test_cosine_and_poly_are_those_of_torch() -> None:
    cosine = rates_of(torch.optim.lr_scheduler.CosineAnnealingLR(sgd(), 40), 40)
    assert [learning_rate(OPTIONS, step, 7) for step in range(40)] == pytest.approx(cosine)
    poly = rates_of(torch.optim.lr_scheduler.PolynomialLR(sgd(), 40, 0.9), 40)
    options = OPTIONS.model_copy(update={"schedule": Schedule.POLY})
    assert [learning_rate(options, step, 7) for step in range(40)] == pytest.approx(poly)


def test_exponential_decay_is_that_of_torch_once_an_epoch() -> None:
    epochs = rates_of(torch.optim.lr_scheduler.ExponentialLR(sgd(), 0.995), 6)
    options = OPTIONS.model_copy(update={"schedule": Schedule.EXPONENTIAL})
    assert [learning_rate(options, step, 7) for step in range(40)] == pytest.approx([epochs[s // 7] for s in range(40)])


@pytest.mark.parametrize("schedule", Schedule)
def test_warm_up_rises_evenly(schedule: Schedule) -> None:
    options = OPTIONS.model_copy(update={"schedule": schedule})
    for step in range(40):
        share = min(1, (step + 1) / 10)
        expected = share * learning_rate(options, step, 7)
        assert learning_rate(options.model_copy(update={"warm_up": 10}), step, 7) == pytest.approx(expected)


def test_optimisers_are_what_they_are_called() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    adam = make_optimizer(OPTIONS.model_copy(update={"amsgrad": True}), parameters)
    assert type(adam) is torch.optim.Adam
    assert (adam.defaults["amsgrad"], adam.defaults["weight_decay"]) == (True, 0)
    adamw = make_optimizer(OPTIONS.model_copy(update={"optimizer": Optimizer.ADAMW, "weight_decay": 0.01}), parameters)
    assert type(adamw) is torch.optim.AdamW
    assert (adamw.defaults["amsgrad"], adamw.defaults["weight_decay"]) == (False, 0.01)
    descent = make_optimizer(OPTIONS.model_copy(update={"optimizer": Optimizer.SGD}), parameters)
    assert type(descent) is torch.optim.SGD
    assert (descent.defaults["nesterov"], descent.defaults["momentum"]) == (True, 0.99)
