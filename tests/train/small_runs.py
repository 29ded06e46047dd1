"""A run of training on tiny cases, and what tells one from another."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from brats_infer.tasks import TASKS
from brats_infer.train.checkpoint import BEST, LAST, LOG
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split
from brats_infer.train.loop import train
from brats_infer.train.run_config import TrainConfig
from tests.small_networks import training_case

CPU = torch.device("cpu")


GLI = TASKS["gli"]


CONFIG = TrainConfig(TrainOptions(channels=(3, 5), patch=8, steps=3, validate_every=2))


def split_of(training: int = 2, shape: tuple[int, int, int] = (10, 9, 8)) -> Split:
    """Some cases to train on and one held out."""
    rng = np.random.default_rng(0)
    *cases, last = (training_case(f"BraTS-GLI-{i:05d}-000", rng, shape) for i in range(training + 1))
    return Split(tuple(cases), (last,))


SPLIT = split_of()


def run(out: Path, config: TrainConfig = CONFIG, split: Split = SPLIT) -> dict[str, Any]:
    return train(config, split, GLI, out, CPU)


def state_of(out: Path) -> dict[str, Any]:
    state = torch.load(out / LAST, weights_only=True)
    assert isinstance(state, dict)
    return state


def log_of(out: Path) -> list[dict[str, Any]]:
    """The log, without what depends on the time."""
    entries = [json.loads(line) for line in (out / LOG).read_text().splitlines()]
    return [{key: value for key, value in entry.items() if key != "patches_per_second"} for entry in entries]


def assert_same_run(one: Path, other: Path) -> None:
    a, b = state_of(one), state_of(other)
    for name in ("network", "mean"):
        for key, tensor in a[name].items():
            assert torch.equal(tensor, b[name][key]), key
    for index, moments in a["optimizer"]["state"].items():
        for key, tensor in moments.items():
            assert torch.equal(tensor, b["optimizer"]["state"][index][key]), key
    assert a["step"] == b["step"]
    assert log_of(one) == log_of(other)
    assert (one / BEST).read_bytes() == (other / BEST).read_bytes()
