"""Weights come back as they were written, and anything else is one CheckpointError that names the file."""

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save as save_safetensors

from model.checkpoint import (
    MANIFEST,
    CheckpointError,
    load_member,
    load_reference,
    read_manifest,
    read_verified,
    save_reference,
    save_weights,
    write_manifest,
)
from model.config import Member, UNetConfig
from model.unet import UNet
from tests.small_networks import SMALL, member_of, random_network, write_weights


def state_of(network: UNet) -> dict[str, torch.Tensor]:
    return {name: tensor.half() for name, tensor in network.state_dict().items()}


def member_with(folder: Path, content: bytes) -> Member:
    """A member whose file holds anything, with the right hash."""
    member = member_of(sha256=hashlib.sha256(content).hexdigest())
    (folder / member.file).write_bytes(content)
    return member


def assert_refused(call: Callable[[], object], path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_weights_come_back_in_16_bits(tmp_path: Path) -> None:
    network = random_network()
    (member,) = write_weights(tmp_path, [network])
    assert read_manifest(tmp_path) == [member]
    loaded = load_member(tmp_path, member)
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())


@torch.no_grad()
def test_loaded_network_computes_the_same(tmp_path: Path) -> None:
    network = random_network()
    (member,) = write_weights(tmp_path, [network])
    x = torch.randn((1, 5, 16, 8, 8), generator=torch.Generator().manual_seed(0))
    network.load_state_dict({name: tensor.half().float() for name, tensor in network.state_dict().items()})
    assert torch.equal(load_member(tmp_path, member)(x), network(x))


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    (member,) = write_weights(tmp_path, [random_network()])
    before = torch.get_rng_state()
    load_member(tmp_path, member)
    assert torch.equal(torch.get_rng_state(), before)


def test_loaded_network_can_be_trained_on(tmp_path: Path) -> None:
    (member,) = write_weights(tmp_path, [random_network()])
    network = load_member(tmp_path, member).train()
    torch.stack([head.mean() for head in network.forward_heads(torch.ones((1, 5, 16, 8, 8)))]).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_weights(tmp_path / name, random_network()) for name in ("a", "b"))
    assert first == second == hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()


def test_saving_again_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert save_weights(path, random_network(seed=0)) != save_weights(path, random_network(seed=1))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("position", [0, 9, 400, -1])
def test_flipped_bit_is_found(tmp_path: Path, position: int) -> None:
    (member,) = write_weights(tmp_path, [random_network()])
    path = tmp_path / member.file
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    assert "sha256" in assert_refused(lambda: load_member(tmp_path, member), path)
    assert_refused(lambda: read_verified(path, member.sha256), path)


@pytest.mark.parametrize("length", [0, 4, 300, -1])
def test_truncated_file_is_found_with_and_without_its_hash(tmp_path: Path, length: int) -> None:
    (member,) = write_weights(tmp_path, [random_network()])
    path = tmp_path / member.file
    content = path.read_bytes()[:length]
    path.write_bytes(content)
    assert_refused(lambda: load_member(tmp_path, member), path)
    cut = member_with(tmp_path, content)
    assert_refused(lambda: load_member(tmp_path, cut), tmp_path / cut.file)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "a folder"])
def test_file_that_is_none(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / member_of().file
    make(path)
    assert_refused(lambda: load_member(tmp_path, member_of()), path)


def test_pickle_in_disguise_is_never_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path.touch, (tmp_path / "harm",)

    member = member_with(tmp_path, pickle.dumps(Harm()))
    assert_refused(lambda: load_member(tmp_path, member), tmp_path / member.file)
    torch.save(random_network().state_dict(), tmp_path / member.file)
    member = member_with(tmp_path, (tmp_path / member.file).read_bytes())
    assert_refused(lambda: load_member(tmp_path, member), tmp_path / member.file)
    assert not (tmp_path / "harm").exists()


def without(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state.pop(name)


def with_value(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state["up.1.block.norm1.bias"].__setitem__(0, value)


@pytest.mark.parametrize(
    "change",
    [
        without("heads.1.bias"),
        lambda state: state.update({"heads.9.bias": torch.zeros(3)}),
        lambda state: state.update({"heads.1.bias": torch.zeros(4)}),
        lambda state: state.update({"down.1.conv1.weight": torch.zeros(3, 4, 3, 3, 3)}),
        with_value(float("nan")),
        with_value(float("inf")),
        lambda state: state.clear(),
    ],
    ids=["a parameter less", "one more", "another shape", "without foreground channel", "NaN", "Inf", "empty"],
)
def test_parameters_that_do_not_fit(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    state = state_of(random_network())
    change(state)
    member = member_with(tmp_path, save_safetensors(state))
    assert_refused(lambda: load_member(tmp_path, member), tmp_path / member.file)


@pytest.mark.parametrize(
    "channels",
    [(4, 5, 6), (3, 5), (3, 5, 6, 7), (10**7, 10**7, 10**7), (2**62, 2**62), (10**30, 2)],
    ids=str,
)
def test_configuration_of_another_network(tmp_path: Path, channels: tuple[int, ...]) -> None:
    (member,) = write_weights(tmp_path, [random_network()])
    other = replace(member, config=UNetConfig(channels=channels))
    assert_refused(lambda: load_member(tmp_path, other), tmp_path / member.file)


def entry(**changes: object) -> dict[str, Any]:
    return {"version": 1, "members": [{**member_of(sha256="0" * 64).to_json(), **changes}]}


def lacking(name: str) -> dict[str, Any]:
    content = entry()
    del content["members"][0][name]
    return content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b"null",
        b"{}",
        {"version": 1},
        {"version": 2, "members": []},
        {"members": []},
        {"version": 1, "members": None},
        {"version": 1, "members": [None]},
        {"version": 1, "members": ["small.safetensors"]},
        {"version": 1, "members": {"a": "b"}},
        lacking("sha256"),
        lacking("config"),
        lacking("window"),
        entry(size=3),
        entry(config=None),
        entry(config="paper"),
        entry(config={**SMALL.to_json(), "levels": 3}),
        entry(config={**SMALL.to_json(), "modalities": "4"}),
        entry(config={**SMALL.to_json(), "channels": [2] * 20_000}),
        entry(window=None),
        entry(window=8),
        entry(window=[8, 8]),
        entry(window=[8, 8, 0]),
        entry(window=[8, 8, -8]),
        entry(window=[8, 8, 9]),
        entry(window=[8.0, 8.0, 8.0]),
        entry(window=[4, 4, 4]),
        entry(window="888"),
        entry(sha256=None),
        entry(task=["gli"]),
        entry(normalisation=["none"]),
        entry(fold="0"),
        entry(scores=[]),
        entry(trained_on={}),
    ],
    ids=lambda content: str(content)[:60],
)
def test_malformed_manifest_is_named(tmp_path: Path, content: object) -> None:
    path = tmp_path / MANIFEST
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    assert_refused(lambda: read_manifest(tmp_path), path)


def test_well_formed_manifest_is_read(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(entry()))
    assert [member.file for member in read_manifest(tmp_path)] == ["small.safetensors"]


@pytest.mark.parametrize("kind", ["missing", "folder", "no weights folder"])
def test_manifest_that_is_none(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "none" if kind == "no weights folder" else tmp_path
    if kind == "folder":
        (folder / MANIFEST).mkdir()
    assert_refused(lambda: read_manifest(folder), folder / MANIFEST)


@pytest.mark.parametrize(
    "file",
    [
        "../small.safetensors",
        "/etc/small.safetensors",
        "sub/small.safetensors",
        "..\\small.safetensors",
        ".small.safetensors",
        "small.safetensors\n",
        "small\0.safetensors",
        "small.pt",
        ".safetensors",
        "",
        7,
    ],
    ids=repr,
)
def test_file_name_that_leaves_the_folder(tmp_path: Path, file: object) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps(entry(file=file)))
    assert_refused(lambda: read_manifest(tmp_path), tmp_path / MANIFEST)


def test_manifest_is_replaced_whole(tmp_path: Path) -> None:
    write_manifest(tmp_path, [member_of("a.safetensors"), member_of("b.safetensors")])
    write_manifest(tmp_path, [member_of("c.safetensors")])
    assert [member.file for member in read_manifest(tmp_path)] == ["c.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_histogram_reference_round_trip(tmp_path: Path) -> None:
    reference = np.sort(np.random.default_rng(0).random((4, 9), np.float32), axis=1)
    member = replace(member_of(), histogram_sha256=save_reference(tmp_path / member_of().histogram_file, reference))
    assert np.array_equal(load_reference(tmp_path, member), reference)


@pytest.mark.parametrize("damage", ["missing", "flipped bit", "three modalities", "not ascending", "no reference"])
def test_damaged_histogram_reference_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / member_of().histogram_file
    reference = np.tile(np.arange(9, dtype=np.float32), (3 if damage == "three modalities" else 4, 1))
    sha256 = save_reference(path, reference[:, ::-1].copy() if damage == "not ascending" else reference)
    if damage == "missing":
        path.unlink()
    if damage == "flipped bit":
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    if damage == "no reference":
        path.write_bytes(content := save({"other": reference}))
        sha256 = hashlib.sha256(content).hexdigest()
    assert_refused(lambda: load_reference(tmp_path, replace(member_of(), histogram_sha256=sha256)), path)
