"""Ways to pass a window through a network on a GPU: milliseconds, memory, and the error beside float32.

    python benchmarks/gpu_passes.py [--channels 64,96,128,192,256,384,512] [--window 128] [--rounds 8]

Random weights and input. Each row is the median of the rounds, after two that do not count, by the GPU's own clock:

- float32: torch's own layers, without TF32; what the errors are relative to.
- autocast: the same network in fp16 as torch casts it, one window and four at once.
- fp16: its weights in fp16, with torch's InstanceNorm3d, contiguous and in channels_last_3d.
- fp16, SampleNorm: what `HalfEngine` runs, contiguous, in channels_last_3d (as shipped), there with the input padded to
  eight channels, with cuDNN's own search for algorithms, and as a CUDA graph.
- fused: statistics by one kernel, scale, shift and leaky ReLU by another that torch compiles when it is first needed.
"""

import argparse
import copy
import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from brats_infer.network.engines import in_half
from model.unet import PAPER_CHANNELS, ConvBlock, UNet, UNetConfig

CHANNELS_LAST = torch.channels_last_3d
FUSED = """template <typename T> T norm_leaky(T x, T scale, T shift) {
    float y = float(x) * float(scale) + float(shift); return T(y > 0.f ? y : y * 0.01f); }"""
GPU = torch.device("cuda")


class FusedNorm(nn.Module):
    """Instance norm of one sample and leaky ReLU in one pass behind the statistics."""

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight.float(), norm.bias.float(), norm.eps
        self.apply_fused = torch.cuda.jiterator._create_jit_fn(FUSED)

    def forward(self, x: Tensor) -> Tensor:
        mean, inverse = torch.batch_norm_stats(x, self.eps)
        scale = inverse * self.weight
        shift = self.bias - mean * scale
        out: Tensor = self.apply_fused(x, *(value.to(x.dtype)[None, :, None, None, None] for value in (scale, shift)))
        return out


def fused(network: UNet) -> UNet:
    """A copy in fp16 and channels_last_3d."""
    half = in_half(network)
    for block, exact in zip(half.modules(), network.modules(), strict=True):
        if isinstance(block, ConvBlock) and isinstance(exact, ConvBlock):
            block.norm1, block.norm2 = FusedNorm(exact.norm1), FusedNorm(exact.norm2)  # type: ignore[assignment]
            block.act = nn.Identity()  # type: ignore[assignment]
    return half


def padded_to_eight(half: UNet) -> UNet:
    """With input channels of nothing."""
    first = half.down["1"]
    assert isinstance(first, ConvBlock)
    weight = first.conv1.weight.data
    first.conv1.weight = nn.Parameter(functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, 8 - weight.shape[1])))
    nn.Module.to(half, memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
    return half


def milliseconds(run: Callable[[], Tensor], rounds: int) -> float:
    for _ in range(2):
        run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(rounds):
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def as_graph(network: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """Replays what was recorded once."""
    with torch.cuda.stream(torch.cuda.Stream()):
        network(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out: Tensor = network(x)

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def autocast(network: UNet, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with torch.autocast("cuda", dtype=torch.float16):
            out: Tensor = network(x)
        return out

    return run


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", default=",".join(map(str, PAPER_CHANNELS)))
    parser.add_argument("--window", type=int, default=128, help="side in voxels")
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    network = UNet(UNetConfig(tuple(int(c) for c in given.channels.split(",")))).eval().to(GPU)
    four = torch.randn((4, network.config.in_channels, *(given.window,) * 3), device=GPU)
    one = four[:1]
    half, plain = in_half(network), copy.deepcopy(network).half()
    apart, together = one.half(), one.half().to(memory_format=CHANNELS_LAST)
    eight = functional.pad(apart, (0, 0, 0, 0, 0, 0, 0, 8 - one.shape[1])).to(memory_format=CHANNELS_LAST)
    flat = in_half(network)
    nn.Module.to(flat, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    stock_last = copy.deepcopy(plain)
    nn.Module.to(stock_last, memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
    wide, one_pass = padded_to_eight(in_half(network)), fused(network)
    expected = network(one)
    rows: list[tuple[str, Callable[[], Tensor], bool]] = [
        ("float32", lambda: network(one), False),
        ("autocast", autocast(network, one), False),
        ("autocast, four at once", autocast(network, four), False),
        ("fp16", lambda: plain(apart), False),
        ("fp16, channels last", lambda: stock_last(together), False),
        ("fp16, SampleNorm", lambda: flat(apart), False),
        ("fp16, SampleNorm, channels last", lambda: half(together), False),
        ("the same, input of eight channels", lambda: wide(eight), False),
        ("the same, cuDNN's search", lambda: half(together), True),
        ("the same as a CUDA graph", as_graph(half, together), False),
        ("fp16, fused, channels last", lambda: one_pass(together), False),
    ]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {given.channels}, {given.window}^3")
    for name, run, search in rows:
        torch.backends.cudnn.benchmark = search
        torch.cuda.reset_peak_memory_stats()
        took, found = milliseconds(run, given.rounds), run()
        error = float((found[:1].float() - expected).norm() / expected.norm())
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"{name:36}{took / len(found):8.2f} ms a window, {peak:.1f} GiB, error {error:.1e}", flush=True)


if __name__ == "__main__":
    main()
