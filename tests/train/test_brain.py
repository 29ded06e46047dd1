from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from brats_infer.phantom.heads import head_of
from brats_infer.train import brain
from brats_infer.train.brain import BRAIN_NETWORK, BrainOptions, train_brain
from tests.phantom.head_codes import codes_of_a_head


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brain, "SIDES", ((0.5, 0.5, 0.5),))
    monkeypatch.setattr(brain, "SIDE_SHARES", (1.0,))
    monkeypatch.setattr(brain, "SAVE_EVERY", 1)


@pytest.mark.usefixtures("small")
def test_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = [head_of(codes_of_a_head())]
    options = BrainOptions(steps=4)
    torch.manual_seed(0)
    whole = train_brain(heads, [], options, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        if line.startswith("step 2"):
            raise StoppedError

    torch.manual_seed(0)
    with pytest.raises(StoppedError):
        train_brain(heads, [], options, tmp_path / "halves", stop)
    resumed = train_brain(heads, [], options, tmp_path / "halves")
    one, two = load_file(whole), load_file(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert whole.stat().st_size < 3e6
    assert BRAIN_NETWORK.modalities == BRAIN_NETWORK.regions == 1
