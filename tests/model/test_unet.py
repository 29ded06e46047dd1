"""The Optimized U-Net against MONAI's DynUNet, the paper's figures, and its configuration."""

import json
from dataclasses import replace

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from model.config import PAPER_CHANNELS, UNetConfig
from model.unet import LayerGroup, UNet, group_prefixes
from tests.small_networks import random_network

FIVE = UNetConfig(channels=(4, 6, 8, 10, 12))
SEVEN = UNetConfig(channels=(2, 3, 4, 5, 6, 7, 8), foreground=False)
FLAT = UNetConfig(
    channels=(4, 6, 8, 8),
    kernels=((3, 3, 1), (3, 3, 3), (1, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (2, 2, 1), (2, 1, 2), (2, 2, 2)),
    decoder_kernels=((3, 3, 3), (1, 3, 3), (3, 3, 3)),  # of the level below, as in DynUNet
    supervised=2,
)
RESIDUAL = UNetConfig(
    channels=(4, 6, 6),
    kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (2, 2, 1), (2, 2, 2)),
    convolutions=(1, 2, 3),
    decoder_convolutions=(1, 3),
    residual=True,
    bias=True,
    eps=1e-3,
    background=True,
    logits=True,
)


def dynunet_with_weights_of(network: UNet) -> DynUNet:
    """MONAI's network of the same configuration, every parameter copied over."""
    config = network.config
    levels = config.levels
    peer = DynUNet(
        spatial_dims=3,
        in_channels=config.in_channels,
        out_channels=config.regions,
        kernel_size=list(config.down_kernels),
        strides=list(config.level_strides),
        upsample_kernel_size=list(config.level_strides[1:]),
        filters=config.channels,
        deep_supervision=config.deep_supervision,
        deep_supr_num=config.supervised - 1,
    )
    peer_blocks: dict[str, nn.Module] = {"1": peer.input_block, str(levels): peer.bottleneck}
    peer_blocks |= {str(i + 2): block for i, block in enumerate(peer.downsamples)}
    pairs: list[tuple[Tensor, Tensor]] = []
    for level, block in network.down.items():
        pairs += block_pairs(block, peer_blocks[level])
    for i, peer_up in enumerate(peer.upsamples):
        up = network.up[str(levels - 1 - i)]
        pairs += [(up.up.weight, peer_up.transp_conv.conv.weight), *block_pairs(up.block, peer_up.conv_block)]
    peer_heads = [peer.output_block, *(peer.deep_supervision_heads if config.deep_supervision else [])]
    for head, peer_head in zip(network.heads.values(), peer_heads, strict=True):
        pairs += [(head.weight, peer_head.conv.conv.weight), (head.bias, peer_head.conv.conv.bias)]
    with torch.no_grad():
        for ours, theirs in pairs:
            assert ours.shape == theirs.shape
            theirs.copy_(ours)
    assert len(pairs) == len(list(network.parameters())) == len(list(peer.parameters()))
    return peer.eval()


def block_pairs(block: nn.Module, peer: nn.Module) -> list[tuple[Tensor, Tensor]]:
    return [
        (block.conv1.weight, peer.conv1.conv.weight),
        (block.norm1.weight, peer.norm1.weight),
        (block.norm1.bias, peer.norm1.bias),
        (block.conv2.weight, peer.conv2.conv.weight),
        (block.norm2.weight, peer.norm2.weight),
        (block.norm2.bias, peer.norm2.bias),
    ]


@pytest.mark.parametrize(
    ("config", "shape"),
    [(FIVE, (32, 48, 32)), (SEVEN, (128, 64, 64)), (FLAT, (24, 12, 20))],
    ids=["five levels", "seven levels", "flat"],
)
@torch.no_grad()
def test_same_output_as_dynunet_with_the_same_weights(config: UNetConfig, shape: tuple[int, int, int]) -> None:
    network = random_network(config)
    peer = dynunet_with_weights_of(network)
    x = torch.randn((2, config.in_channels, *shape), generator=torch.Generator().manual_seed(1))
    expected = peer(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_heads_are_those_of_dynunet_in_training() -> None:
    network = random_network(FIVE)
    peer = dynunet_with_weights_of(network).train()
    x = torch.randn((1, 5, 32, 32, 48), generator=torch.Generator().manual_seed(2))
    heads = network.forward_heads(x)
    assert [tuple(head.shape[2:]) for head in heads] == [(32, 32, 48), (16, 16, 24), (8, 8, 12)]
    for i, (head, expected) in enumerate(zip(heads, peer(x).unbind(dim=1), strict=True)):
        enlarged = head
        for axis in (2, 3, 4):
            enlarged = enlarged.repeat_interleave(2**i, dim=axis)  # as DynUNet returns them
        torch.testing.assert_close(enlarged, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_forward_is_the_first_head() -> None:
    network = random_network(FIVE)
    x = torch.randn((1, 5, 32, 16, 16), generator=torch.Generator().manual_seed(3))
    assert torch.equal(network(x), network.forward_heads(x)[0])


def count(network: UNet, prefixes: tuple[str, ...] = ("",)) -> int:
    return sum(p.numel() for name, p in network.named_parameters() if name.startswith(prefixes))


def test_the_papers_network_has_the_papers_size() -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig(foreground=False))
    assert network.config.channels == PAPER_CHANNELS
    assert round(count(network) / 1e6, 2) == 50.84
    assert round(count(network, group_prefixes(network.config, "middle")) / 1e6, 1) == 45.1


def test_encoder_and_decoder_share_no_parameter_and_miss_none() -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig())
    names = {name for name, _ in network.named_parameters()}
    encoder, decoder = (
        {name for name in names if name.startswith(group_prefixes(network.config, group))}
        for group in ("encoder", "decoder")
    )
    assert encoder
    assert decoder
    assert not encoder & decoder
    assert encoder | decoder == names
    assert {name.split(".")[0] for name in decoder} == {"up", "heads"}


@pytest.mark.parametrize(
    ("group", "levels"),
    [
        ("encoder", {"down": {1, 2, 3, 4, 5, 6, 7}}),
        ("decoder", {"up": {1, 2, 3, 4, 5, 6}, "heads": {1, 2, 3}}),
        ("middle", {"down": {5, 6, 7}, "up": {4, 5, 6}}),
        ("none", {}),
    ],
)
def test_layer_groups_are_those_of_the_paper(group: LayerGroup, levels: dict[str, set[int]]) -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig())
    found: dict[str, set[int]] = {}
    for name, _ in network.named_parameters():
        if name.startswith(group_prefixes(network.config, group)):
            part, level, *_ = name.split(".")
            found.setdefault(part, set()).add(int(level))
    assert found == levels


def test_shallow_networks_have_only_the_heads_that_fit() -> None:
    assert UNetConfig(channels=(4, 8)).head_levels == (1,)
    assert UNetConfig(channels=(4, 8, 8)).head_levels == (1, 2)
    assert UNetConfig(deep_supervision=False).head_levels == (1,)


@pytest.mark.parametrize("config", [UNetConfig(), FIVE, UNetConfig((4, 8), 2, 1, False, False), FLAT, RESIDUAL])
def test_config_survives_the_manifest(config: UNetConfig) -> None:
    assert UNetConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "change",
    [
        {"channels": None},
        {"channels": "64"},
        {"channels": []},
        {"channels": [64]},
        {"channels": [64, 0]},
        {"channels": [64, 96.0]},
        {"channels": [64, True]},
        {"channels": [64, "96"]},
        {"modalities": 0},
        {"modalities": 4.0},
        {"modalities": "4"},
        {"regions": -3},
        {"regions": None},
        {"foreground": "false"},
        {"deep_supervision": 1},
        {"dropout": 1},
        {"dropout": 1.0},
        {"disjoint": 0},
        {"width": 0.1},
        {"kernels": [[3, 3, 3]]},
        {"kernels": [[3, 3, 2]] * 7},
        {"kernels": [[3, 3]] * 7},
        {"kernels": [[3, 3, 3.0]] * 7},
        {"kernels": 3},
        {"strides": [[2, 2, 2]] * 7},
        {"strides": [[1, 1, 1]] * 6 + [[0, 1, 1]]},
        {"convolutions": [2] * 6},
        {"convolutions": [2] * 6 + [0]},
        {"decoder_convolutions": [2] * 7},
        {"eps": 0.0},
        {"supervised": 0},
        {"background": True},
        {"residual": 1},
    ],
    ids=str,
)
def test_config_rejects_what_is_none(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        UNetConfig.from_json({**UNetConfig().to_json(), **change})


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((128, 128, 128), True),
        ((64, 128, 64), True),
        ((64, 64, 64), False),  # one voxel at the bottom
        ((128, 128, 96), False),
        ((0, 128, 128), False),
    ],
)
def test_grids_that_fit_are_those_that_pass(shape: tuple[int, int, int], fits: bool) -> None:
    config = UNetConfig(channels=(1,) * 7)
    assert config.fits(shape) is fits
    network, x = UNet(config), torch.zeros((1, 5, *shape))
    if fits:
        assert network(x).shape == (1, 3, *shape)
    else:
        with pytest.raises((RuntimeError, ValueError)):
            network(x)


def test_configuration_of_before_a_field_was_added_can_be_read() -> None:
    old = {"channels": [2, 3], "modalities": 4, "regions": 3, "foreground": True, "deep_supervision": True}
    assert UNetConfig.from_json(dict(old)) == UNetConfig(channels=(2, 3), dropout=0.0, disjoint=False)


def test_a_network_of_the_paper_has_the_manifest_that_it_had() -> None:
    """Earlier versions refuse a field that they do not know."""
    names = ["channels", "modalities", "regions", "foreground", "deep_supervision", "dropout", "disjoint", "spacing"]
    assert list(FIVE.to_json()) == names
    assert set(FLAT.to_json()) == {*names, "kernels", "strides", "decoder_kernels", "supervised"}


@pytest.mark.parametrize(
    ("shape", "fits"), [((8, 4, 4), True), ((8, 8, 2), True), ((8, 4, 5), False), ((4, 4, 2), False)]
)
def test_each_axis_has_its_own_multiple(shape: tuple[int, int, int], fits: bool) -> None:
    assert (RESIDUAL.multiples, RESIDUAL.multiple) == ((4, 4, 2), 4)
    assert RESIDUAL.fits(shape) is fits


@torch.no_grad()
def test_residual_blocks_add_their_input() -> None:
    """Without its last norm's scale a block is the leaky ReLU of what its skip passes on."""
    network = random_network(RESIDUAL)
    block = network.down["3"].blocks[1]
    torch.nn.init.zeros_(block.norm2.weight)
    torch.nn.init.zeros_(block.norm2.bias)
    x = torch.randn((1, 6, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), torch.nn.functional.leaky_relu(x, 0.01))
    assert network(torch.randn(1, 5, 8, 8, 4)).shape == (1, 4, 8, 8, 4)
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"stem", "down", "up", "heads"}
    groups = group_prefixes(RESIDUAL, "encoder") + group_prefixes(RESIDUAL, "decoder")
    assert all(name.startswith(groups) for name, _ in network.named_parameters())


def test_dropout_adds_no_parameter_and_works_in_training_only() -> None:
    plain, x = random_network(FIVE), torch.randn(1, 5, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    dropping = UNet(replace(FIVE, dropout=0.5))
    dropping.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        assert torch.equal(dropping.eval()(x), plain(x))
        torch.manual_seed(0)
        first = dropping.train()(x)
        assert not torch.equal(dropping(x), first)
        torch.manual_seed(0)
        assert torch.equal(dropping(x), first)
