"""Channels-last memory changes the speed of training on the CPU, not what is learned."""

import pytest
import torch

from brats_infer.train.step.memory_format import keep_channels_last
from tests.small_networks import SMALL, random_network


@pytest.mark.parametrize("batch", [1, 2])
def test_channels_last_gives_the_same_gradients(batch: int) -> None:
    plain, last = random_network(), random_network()
    keep_channels_last(last)
    x = torch.randn(batch, SMALL.in_channels, 16, 16, 16, generator=torch.Generator().manual_seed(1))

    for network in (plain, last):
        torch.stack([head.square().mean() for head in network.train().forward_heads(x)]).sum().backward()

    for (name, one), other in zip(plain.named_parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_instance_norm_keeps_channels_last() -> None:
    network = random_network()
    keep_channels_last(network)
    features = torch.randn(1, SMALL.channels[0], 8, 8, 8).contiguous(memory_format=torch.channels_last_3d)

    normalised = network.down["1"].norm1(features)

    assert normalised.is_contiguous(memory_format=torch.channels_last_3d)
