"""OpenVINO against torch, and what is used where it cannot be."""

import logging
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brats_infer.files.nifti import read_images
from brats_infer.image.crop import crop_to_brain
from brats_infer.labelling.postprocess import keep_brain
from brats_infer.network import loading, openvino_engine
from brats_infer.network.devices import CPU
from brats_infer.network.engines import TorchEngine, padded_shape
from brats_infer.network.gpu.half_engine import HalfEngine, SampleNorm, full_precision, in_half
from brats_infer.network.loading import ensemble_of, fastest_engine, openvino_works
from brats_infer.network.openvino_engine import MVN_VOXELS, OpenVinoEngine, graph
from brats_infer.network.windows import predict_member
from brats_infer.settings import Settings
from brats_infer.tasks import MODALITIES, TASKS
from model.checkpoint import load_member, read_manifest
from model.config import UNetConfig
from model.unet import UNet
from tests.model.test_unet import FLAT, RESIDUAL
from tests.small_networks import SMALL, random_network

GLI = TASKS["gli"]
ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "weights"


@dataclass(frozen=True)
class Float32:
    """An engine in torch that computes in float32 on every processor."""

    network: UNet

    @property
    def config(self) -> UNetConfig:
        return self.network.config

    def __call__(self, batch: Tensor) -> Tensor:
        size = batch.shape[2:]
        sides = padded_shape(size, self.config)
        padded = batch.new_zeros((*batch.shape[:2], *sides))
        corner = (..., *(slice(n) for n in size))
        padded[corner] = batch
        return in_float32(self.network, padded)[corner]


def in_float32(network: UNet, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.sigmoid(network(x))


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (SMALL, (1, 5, 16, 12, 20)),
        (SMALL, (2, 5, 8, 8, 8)),
        (UNetConfig((4, 8), foreground=False, deep_supervision=False), (1, 4, 10, 12, 14)),
        (UNetConfig((4, 6, 8, 10, 12), dropout=0.3, regions=2), (1, 5, 32, 48, 32)),
        (FLAT, (1, 5, 24, 12, 20)),
        (replace(RESIDUAL, logits=False, background=False), (1, 5, 12, 16, 6)),
    ],
    ids=["small", "batch", "two levels", "deep", "flat", "residual"],
)
def test_openvino_computes_what_torch_does(config: UNetConfig, shape: tuple[int, ...]) -> None:
    network = random_network(config)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    engine = OpenVinoEngine(network, bf16=False)
    assert engine.config == config
    torch.testing.assert_close(engine(x), in_float32(network, x), rtol=0, atol=2e-5)


@torch.inference_mode()
def test_every_engine_gives_logits_where_the_network_averages_them() -> None:
    network = random_network(RESIDUAL)
    x = torch.randn((1, 5, 9, 8, 5), generator=torch.Generator().manual_seed(1))
    padded = torch.zeros((1, 5, 12, 8, 6))
    padded[..., :9, :8, :5] = x
    expected = network(padded)[..., :9, :8, :5]
    engines = ((OpenVinoEngine(network, bf16=False), 1e-4), (TorchEngine(network, dtype=torch.float32), 1e-6))
    for engine, atol in engines:
        torch.testing.assert_close(engine(x), expected, rtol=0, atol=atol)


def test_one_engine_serves_one_shape_after_the_other_however_they_lie_in_memory() -> None:
    network = random_network()
    engine = OpenVinoEngine(network, bf16=False)
    for shape in ((1, 5, 8, 8, 8), (1, 5, 16, 8, 8), (1, 5, 8, 8, 8)):
        wide = torch.randn((5, 20, 18, 17))
        window = wide[:, 3 : 3 + shape[2], 5:13, 9:17][None]
        turned = torch.randn((shape[0], shape[1], shape[4], shape[3], shape[2])).transpose(2, 4)
        spread = torch.randn((1, 1, *shape[2:])).expand(shape)
        part = torch.randn((3, *shape[1:]))[1:2]
        thin = torch.randn((*shape[:-1], 1)).expand(shape)
        for x in (torch.randn(shape), window, turned, spread, thin, part, wide.flip(1)[:, -shape[2] :, -8:, :8][None]):
            assert x.shape == shape
            torch.testing.assert_close(engine(x), in_float32(network, x), rtol=0, atol=2e-5)


@dataclass
class Watched:
    """A compiled model, and what is told of it."""

    model: Any
    size: int
    told: list[str]

    def create_infer_request(self) -> Any:
        self.told.append(f"computes {self.size}")
        return self.model.create_infer_request()

    def release_memory(self) -> None:
        self.told.append(f"releases {self.size}")
        self.model.release_memory()


def test_shapes_that_come_again_are_not_compiled_again_and_one_has_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network()
    told, compiled = list[str](), openvino_engine._compiled

    def watched(network: UNet, options: dict[str, object], shape: tuple[int, ...]) -> Watched:
        told.append(f"compiles {shape[2]}")
        return Watched(compiled(network, options, shape), shape[2], told)

    monkeypatch.setattr(openvino_engine, "_compiled", watched)
    monkeypatch.setattr(openvino_engine, "KEPT", 2 * sum(parameter.nbytes for parameter in network.parameters()))
    monkeypatch.setattr(openvino_engine, "_ENGINES", WeakSet())
    engine = OpenVinoEngine(network, bf16=False)
    for size in (8, 8, 16, 8, 24, 8, 16):
        x = torch.randn(1, 5, size, 8, 8)
        torch.testing.assert_close(engine(x), in_float32(network, x), rtol=0, atol=2e-5)
    assert [line for line in told if "releases" not in line] == [
        *("compiles 8", "computes 8", "compiles 16", "computes 16", "computes 8", "compiles 24", "computes 24"),
        *("computes 8", "compiles 16", "computes 16"),  # of two that are kept 16 was the one used longest ago
    ]
    released = [line for line in told if "compiles" not in line][1:]
    assert released[::2] == [f"releases {size}" for size in (8, 16, 8, 24, 8)], "before the next one computes"


def test_engines_share_what_may_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network()
    monkeypatch.setattr(openvino_engine, "KEPT", 6 * sum(parameter.nbytes for parameter in network.parameters()))
    monkeypatch.setattr(openvino_engine, "_ENGINES", WeakSet())
    first = OpenVinoEngine(network, bf16=False)
    for size in range(8, 64, 8):
        first(torch.randn(1, 5, size, 8, 8))
    assert [shape[2] for shape in first._kept] == list(range(16, 64, 8)), "six"
    others = [OpenVinoEngine(network, bf16=False) for _ in range(2)]
    others[0](torch.randn(1, 5, 8, 8, 8))
    assert [shape[2] for shape in first._kept] == [48, 56], "two of each, of one that rests too"
    del others
    assert first.room() == 6


def test_an_engine_computes_after_a_shape_that_could_not_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    network, compiled = random_network(), openvino_engine._compiled

    def failing(network: UNet, options: dict[str, object], shape: tuple[int, ...]) -> Any:
        if shape[2] == 16:
            raise RuntimeError("no memory")
        return compiled(network, options, shape)

    monkeypatch.setattr(openvino_engine, "_compiled", failing)
    engine, x = OpenVinoEngine(network, bf16=False), torch.randn(1, 5, 8, 8, 8)
    before = engine(x).clone()
    with pytest.raises(RuntimeError, match="no memory"):
        engine(torch.randn(1, 5, 16, 8, 8))
    assert torch.equal(engine(x), before)


@pytest.mark.parametrize("size", [(8, 8, 8), (5, 7, 3), (17, 12, 23), (16, 8, 8)])
def test_what_does_not_fit_the_network_is_padded_at_the_end(size: tuple[int, int, int]) -> None:
    network = random_network()
    x = torch.randn((1, 5, *size), generator=torch.Generator().manual_seed(3))
    sides = [max(8, -(-n // 4) * 4) for n in size]
    padded = torch.zeros((1, 5, *sides))
    corner = (..., *(slice(n) for n in size))
    padded[corner] = x
    engine = OpenVinoEngine(network, bf16=False)
    engine(torch.randn((1, 5, *sides)))  # of which nothing may stay
    torch.testing.assert_close(engine(x), in_float32(network, padded)[corner], rtol=0, atol=2e-5)


def test_what_fits_the_network_is_not_padded_however_thin() -> None:
    network = random_network()
    x = torch.randn((1, 5, 4, 4, 8), generator=torch.Generator().manual_seed(3))
    assert network.config.multiple == 4
    exact, perhaps_bf16 = OpenVinoEngine(network, bf16=False), TorchEngine(network)
    for engine, atol in ((exact, 2e-5), (perhaps_bf16, 0.05)):
        torch.testing.assert_close(engine(x), in_float32(network, x), rtol=0, atol=atol)


@torch.inference_mode()
@pytest.mark.parametrize("samples", [1, 3])
def test_fp16_of_a_gpu_is_near_float32(samples: int) -> None:
    """Here on the CPU, with the same layers."""
    network = random_network()
    engine = HalfEngine(network, half=in_half(network))
    x = torch.randn((samples, 5, 9, 8, 7), generator=torch.Generator().manual_seed(4))
    within, exact = engine(x), Float32(network)(x)
    assert not torch.equal(within, exact)
    torch.testing.assert_close(within, exact, rtol=0, atol=5e-3)


@torch.inference_mode()
@pytest.mark.parametrize("window", [None, (8, 8, 8)], ids=["whole", "windows"])
@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("spacing", [1, 2])
@pytest.mark.parametrize("at", [(2, 3, 4), (18, 17, 16)], ids=["first", "last"])
def test_what_overflows_fp16_is_computed_in_float32(
    window: tuple[int, int, int] | None, flips: bool, spacing: int, at: tuple[int, int, int]
) -> None:
    network = random_network(replace(SMALL, spacing=spacing))
    engine = HalfEngine(network, half=in_half(network))
    x = torch.randn((5, 19, 18, 17), generator=torch.Generator().manual_seed(4))
    x[1, *at] = 1e6  # one voxel, which only one of the windows holds
    assert predict_member(engine, x, window, flips).sum().isnan()
    found = predict_member(full_precision(engine), x, window, flips)
    torch.testing.assert_close(found, predict_member(Float32(network), x, window, flips), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_norm_of_one_sample_is_instance_norm_and_leaves_the_layout_alone() -> None:
    norm = nn.InstanceNorm3d(6, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn((1, 6, 5, 4, 3)).to(memory_format=torch.channels_last_3d) * 3 + 1
    found = SampleNorm(norm)(x)
    torch.testing.assert_close(found, norm(x), rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


def test_network_in_fp16_is_a_copy_in_channels_last_whose_norms_stay_in_float32() -> None:
    network = random_network()
    half = in_half(network)
    dtypes = {type(layer): {p.dtype for p in layer.parameters()} for layer in half.modules() if not [*layer.children()]}
    assert dtypes[nn.Conv3d] == dtypes[nn.ConvTranspose3d] == {torch.float16}
    assert dtypes[SampleNorm] == {torch.float32}
    assert nn.InstanceNorm3d not in dtypes
    kernels = [p for p in half.parameters() if p.dim() == 5]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last_3d) for kernel in kernels)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@torch.inference_mode()
@pytest.mark.parametrize("window", [None, (8, 8, 8)], ids=["whole", "windows"])
@pytest.mark.parametrize("flips", [False, True])
def test_windows_and_flips_are_those_of_torch_and_outlive_the_next_case(
    window: tuple[int, int, int] | None, flips: bool
) -> None:
    network = random_network()
    engine = OpenVinoEngine(network, bf16=False)
    first, second = torch.randn((2, 5, 12, 10, 9))
    found = predict_member(engine, first, window, flips)
    predict_member(engine, second, window, flips)
    torch.testing.assert_close(found, predict_member(Float32(network), first, window, flips), rtol=0, atol=2e-5)


def test_an_answer_is_the_callers_own() -> None:
    engine = OpenVinoEngine(random_network(), bf16=False)
    first, second = (torch.randn(1, 5, 8, 8, 8) for _ in range(2))
    found = engine(first)
    before = found.clone()
    assert not torch.equal(engine(second), before)
    assert torch.equal(found, before)


@pytest.mark.parametrize("bf16", [False, True])
def test_deviations_are_exact_over_millions_of_voxels(bf16: bool) -> None:
    """Most of a brain's crop is one value behind the first norm, which drifts when summed up in one float32."""
    network = random_network(UNetConfig((4, 4), foreground=False))
    x = torch.randn((1, 4, 132, 130, 130), generator=torch.Generator().manual_seed(2)) + 1
    x[:, :, :60] = 0.2
    assert x[0, 0].numel() > MVN_VOXELS
    error = (OpenVinoEngine(network, bf16)(x) - in_float32(network, x)).abs()
    assert float(error.max()) < (0.1 if bf16 else 1e-4)
    assert float(error.mean()) < (3e-3 if bf16 else 1e-5)


def test_sums_over_millions_of_voxels_are_outputs_so_that_they_stay_in_float32() -> None:
    network = random_network(UNetConfig((4, 4), foreground=False))
    large, small = (1, 4, 132, 130, 130), (1, 4, 64, 64, 64)
    norms = 4  # of the upper level, whose grid is the input's
    assert [len(graph(network, shape).outputs) for shape in (large, small)] == [1 + norms, 1]


@pytest.mark.parametrize("members", [2, 1], ids=["closer", "whole brain"])
def test_labels_of_a_real_case_are_those_of_torch_in_float32(members: int, shared: Path) -> None:
    """With the shipped members, or the one at 1 mm alone, in the precision that this processor is given."""
    folder = shared / "cases" / "gli" / "images" / "BraTS-GLI-90004-000"
    listed = [member for member in read_manifest(WEIGHTS) if member.task == "gli"]
    assert [member.config.spacing for member in listed] == [1, 2]
    networks = [(member, load_member(WEIGHTS, member)) for member in listed[:members]]
    cropped = crop_to_brain(read_images(sorted(folder.glob("*.nii.gz"), key=_order)))
    shipped, in_torch = (
        ensemble_of(GLI, networks, CPU, make_engine=make)
        for make in (fastest_engine, lambda network, _: Float32(network))
    )
    inputs = shipped.prepare(cropped)
    maps = [keep_brain(each.predict(inputs, Settings()).labels, cropped.brain) for each in (shipped, in_torch)]
    assert type(shipped.engines[0]) is OpenVinoEngine
    found, expected = maps
    tumor = expected > 0
    assert np.count_nonzero(tumor) > 10_000
    assert (found == expected)[tumor].mean() >= 0.999


def _order(path: Path) -> int:
    return [m.name for m in MODALITIES].index(path.name.removesuffix(".nii.gz").rpartition("-")[2])


def test_a_signal_after_two_engines_have_gone_is_handled() -> None:
    """OpenVINO sets up the stack on which the process handles signals, and takes it away."""
    code = """
import faulthandler, signal, torch
from brats_infer.network.openvino_engine import OpenVinoEngine
from tests.small_networks import random_network
faulthandler.enable()
first, second = (OpenVinoEngine(random_network(), bf16=False) for _ in range(2))
for engine in (first, second):
    engine(torch.zeros(1, 5, 8, 8, 8))
del engine, first
del second
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_without_openvino_torch_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "openvino_works", lambda: False)
    network = random_network()
    assert fastest_engine(network, CPU) == TorchEngine(network, CPU)


def test_openvino_is_for_the_cpu_alone() -> None:
    network = random_network()
    assert type(fastest_engine(network, CPU)) is OpenVinoEngine
    assert type(fastest_engine(network, torch.device("cpu:0"))) is TorchEngine  # as any device that is not the CPU


def test_openvino_that_is_broken_is_told_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr("builtins.__import__", lambda name, *rest: fail() if "openvino" in name else real(name, *rest))
    openvino_works.cache_clear()
    assert not openvino_works()
    assert "libtbb" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
    openvino_works.cache_clear()


real = __import__


def test_an_engine_starts_no_more_threads_than_it_may_and_is_bound_to_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, object]] = []
    core = openvino_engine._CORE

    class Core:
        def compile_model(self, model: object, device: str, config: dict[str, object]) -> object:
            given.append(config)
            return core.compile_model(model, device, config)

    monkeypatch.setattr(openvino_engine, "_CORE", Core())
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    OpenVinoEngine(random_network())(torch.zeros(1, 5, 8, 8, 8))
    assert [(config["INFERENCE_NUM_THREADS"], config["ENABLE_CPU_PINNING"]) for config in given] == [(1, False)]


def test_every_layer_of_the_network_is_in_the_graph() -> None:
    """A layer that is added to the network and not to the graph would be missed in silence."""
    known = (nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.LeakyReLU, nn.Dropout3d, nn.Identity, nn.AvgPool3d)
    networks = (random_network(), random_network(RESIDUAL))
    leaves = [module for network in networks for module in network.modules() if not list(module.children())]
    assert {type(module) for module in leaves} <= set(known)
