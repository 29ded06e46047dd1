"""DynUNets of MONAI, saved as a state dict and as a checkpoint of Lightning, become members with the same logits."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import Tensor

from brats_infer.errors import WeightsError
from brats_infer.imported.model import Wanted
from brats_infer.imported.write import import_model
from model.checkpoint import load_member
from model.config import PAPER_CHANNELS
from tests.imported.fixtures import GLI

NARROW = (2, 3, 4, 5, 6, 7, 8)


def dynunet(filters: tuple[int, ...] = NARROW, **changes: Any) -> DynUNet:
    """NVIDIA's network for BraTS 2021, with random weights and norms that are no identities."""
    levels = len(filters)
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "spatial_dims": 3, "in_channels": 5, "out_channels": 3, "kernel_size": [3] * levels,
        "strides": [1] + [2] * (levels - 1), "upsample_kernel_size": [2] * (levels - 1), "filters": filters,
        "norm_name": ("INSTANCE", {"affine": True}),
        "deep_supervision": True, "deep_supr_num": 2, "res_block": False, "trans_bias": False,
    }  # fmt: skip
    network = DynUNet(**{**given, **changes}).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def save(network: DynUNet, path: Path, how: str) -> Path:
    state = network.state_dict()
    content: dict[str, Any] = state
    if how == "lightning":
        arguments = argparse.Namespace(depth=6, filters=list(NARROW), data="/data/11_3d")
        content = {
            "epoch": 3, "global_step": 100, "state_dict": {f"model.{name}": tensor for name, tensor in state.items()},
            "hyper_parameters": {"args": arguments}, "loops": {}, "optimizer_states": [],
        }  # fmt: skip
    torch.save(content, path)
    return path


@torch.inference_mode()
@pytest.mark.parametrize("how", ["state dict", "lightning"])
@pytest.mark.parametrize(
    "filters", [NARROW, pytest.param(PAPER_CHANNELS, marks=pytest.mark.slow)], ids=["narrow", "as published"]
)
def test_logits_are_those_of_monai(how: str, filters: tuple[int, ...], tmp_path: Path) -> None:
    network = dynunet(filters)
    path = save(network, tmp_path / "model.ckpt", how)
    (member,) = import_model(path, tmp_path / "weights", GLI, "Apache-2.0", Wanted())
    assert (member.config.channels, member.config.foreground, member.window) == (filters, True, (128, 128, 128))
    assert member.config.head_levels == (1, 2, 3)
    x = torch.randn((1, 5, 128, 64, 64), generator=torch.Generator().manual_seed(1))
    found = load_member(tmp_path / "weights", member)
    torch.testing.assert_close(found(x), network(x), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_channels_and_axes_are_brought_into_our_order(tmp_path: Path) -> None:
    """The network read arrays (z, y, x), FLAIR first; kernels and strides differ along the axes."""
    flat = {"kernel_size": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "strides": [1, [1, 2, 2], 2]}
    network = dynunet((4, 6, 8), **flat, upsample_kernel_size=[[1, 2, 2], 2], deep_supr_num=1)
    path = save(network, tmp_path / "model.pt", "state dict")
    wanted = Wanted(axes="zyx", channels=("t2f", "t1n", "t1c", "t2w"), patch=(16, 16, 8))
    (member,) = import_model(path, tmp_path / "weights", GLI, "Apache-2.0", wanted)
    assert member.config.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    x = torch.randn((1, 5, 16, 12, 8), generator=torch.Generator().manual_seed(1))
    theirs: Tensor = network(x[:, [3, 0, 1, 2, 4]].transpose(2, 4)).transpose(2, 4)
    torch.testing.assert_close(load_member(tmp_path / "weights", member)(x), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"res_block": True}, "conv3"),
        ({"trans_bias": True}, "bias"),
        ({"out_channels": 4}, "4 outputs"),
        ({"in_channels": 7}, "shape"),
        ({"norm_name": "batch"}, "running_mean"),
    ],
    ids=["residual", "bias", "outputs", "inputs", "batch norm"],
)
def test_other_dynunets_are_refused(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = save(dynunet((2, 3, 4, 5), **changes), tmp_path / "model.pt", "state dict")
    with pytest.raises(WeightsError, match=reason):
        import_model(path, tmp_path / "weights", GLI, "Apache-2.0", Wanted())
    assert not (tmp_path / "weights").exists()
