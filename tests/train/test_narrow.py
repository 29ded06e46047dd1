"""A narrower network keeps the channels that matter."""

from pathlib import Path

import pytest
import torch

from brats_infer.errors import UsageError
from brats_infer.tasks import TASKS
from brats_infer.train.narrow import can_narrow, narrowed
from brats_infer.train.transfer import read_initial
from model.config import UNetConfig
from model.unet import UNet
from tests.small_networks import random_network, write_weights

WIDE, LIVE = (5, 7, 9), (3, 4, 6)


def with_idle_channels(seed: int = 3) -> UNet:
    """A network in which all but LIVE channels of each level give 0, at places drawn for each layer."""
    network = random_network(UNetConfig(channels=WIDE), seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("norm1.weight", "norm2.weight")):
                level = int(name.split(".")[1]) - 1
                idle = torch.randperm(WIDE[level], generator=draw)[LIVE[level] :]
                parameter[idle] = 0
                network.get_parameter(name.replace(".weight", ".bias"))[idle] = 0
            elif name.endswith("up.weight"):
                level = int(name.split(".")[1]) - 1
                parameter[:, torch.randperm(WIDE[level], generator=draw)[LIVE[level] :]] = 0
    return network


def test_channels_that_give_nothing_are_those_that_go(tmp_path: Path) -> None:
    wide = with_idle_channels().half().float()  # as in the file
    write_weights(tmp_path, [wide])
    narrow = UNet(UNetConfig(channels=LIVE))
    read_initial(tmp_path).put_into(narrow, TASKS["gli"])
    image = torch.randn(1, 5, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(narrow(image), wide(image), atol=1e-4)
        assert narrow(image).std() > 0.01


def test_the_same_widths_stay_as_they_are() -> None:
    state = random_network(UNetConfig(channels=LIVE)).state_dict()
    cut = narrowed(state, LIVE)
    assert cut.keys() == state.keys()
    assert all(torch.equal(cut[name], state[name]) for name in state)


@pytest.mark.parametrize("channels", [(6, 7, 9), (5, 7), (5, 7, 9, 9)])
def test_wider_and_deeper_networks_are_refused(tmp_path: Path, channels: tuple[int, ...]) -> None:
    wide = with_idle_channels()
    assert not can_narrow(wide.state_dict(), channels)
    write_weights(tmp_path, [wide])
    with pytest.raises(UsageError, match="is of another network"):
        read_initial(tmp_path).put_into(UNet(UNetConfig(channels=channels)), TASKS["gli"])
