"""A network on the CPU through OpenVINO, several times as fast as torch in float32 (docs/performance.md).

The graph is built layer by layer from the network: ONNX export or tracing takes longer than a case.
"""

import math
import sys
from collections import OrderedDict
from threading import Lock
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # it writes to HOME and sends data
import openvino as ov  # noqa: E402
from openvino import opset15 as op  # noqa: E402

from brats_infer.network.devices import computes_in_bf16  # noqa: E402
from brats_infer.network.engines import padded_shape  # noqa: E402
from brats_infer.system.cores import thread_limit  # noqa: E402
from model.config import UNetConfig  # noqa: E402
from model.unet import ConvBlock, ResidualBlock, ResidualLevel, UNet, UpBlock  # noqa: E402

CHANNEL = 1
SPATIAL = (2, 3, 4)
MVN_VOXELS = 2**20
"""OpenVINO's own norm sums all voxels in one float32. For a whole brain at 1 mm its standard deviations are off by up
to 0.2 %, which changes 1 % of a tumor's labels. Above this size `_exact_norm` sums in short steps."""
KEPT = 3 * 2**27
"""Parameter bytes in the cache of compiled shapes, for all networks; OpenVINO needs 2.4 times as much memory."""
_CORE = ov.Core()
"""One core for the whole process. Each core installs a signal stack, and restores the previous stack when it goes.
Of two overlapping cores, the last restores the freed stack of the first; the next signal is a segmentation fault."""


class OpenVinoEngine:
    """Keeps compiled models for recent shapes, as compiling takes 0.1 to 0.7 s. Only one has working memory."""

    def __init__(self, network: UNet, bf16: bool | None = None) -> None:
        """`bf16` None: bf16 if the processor computes in it natively."""
        self.network = network.cpu().eval()
        bf16 = computes_in_bf16() if bf16 is None else bf16
        options: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinned, two containers share cores while others idle
        }
        if limit := thread_limit():
            options["INFERENCE_NUM_THREADS"] = limit
        self._options = options
        self._kept: OrderedDict[tuple[int, ...], ov.CompiledModel] = OrderedDict()  # the last used shape is last
        with _REGISTER:
            _ENGINES.add(self)
        self._shape: tuple[int, ...] = ()
        self._compiled: ov.CompiledModel | None = None
        self._request: ov.InferRequest | None = None

    @property
    def config(self) -> UNetConfig:
        return self.network.config

    def __call__(self, batch: Tensor) -> Tensor:
        """As `Engine`."""
        shape = (*batch.shape[:2], *padded_shape(batch.shape[2:], self.config))
        if self._request is None or shape != self._shape:
            self._request = None
            if self._compiled:
                self._compiled.release_memory()  # its working memory, before the next model needs memory
            self._compiled, self._shape = self._compiled_for(shape), shape
            self._request = self._compiled.create_infer_request()
        # copied into OpenVINO's own memory: it may still write to shared memory after a batch is freed
        _fill(torch.from_numpy(self._request.get_input_tensor(0).data), batch)
        self._request.infer()
        found = torch.from_numpy(self._request.get_output_tensor(0).data)
        inside = found[:, :, : batch.shape[2], : batch.shape[3], : batch.shape[4]]
        return inside.clone(memory_format=torch.contiguous_format)  # the next run overwrites OpenVINO's memory

    def _compiled_for(self, shape: tuple[int, ...]) -> ov.CompiledModel:
        with _REGISTER:
            if shape not in self._kept:
                self._kept[shape] = _compiled(self.network, self._options, shape)
            self._kept.move_to_end(shape)
            for engine in _ENGINES:
                while len(engine._kept) > engine.room():
                    engine._kept.popitem(last=False)
            return self._kept[shape]

    def room(self) -> int:
        """The number of compiled shapes to keep: this engine's share of `KEPT` among all engines."""
        size = sum(parameter.nbytes for parameter in self.network.parameters())
        return max(1, KEPT // (len(_ENGINES) * size))


_ENGINES: WeakSet[OpenVinoEngine] = WeakSet()
_REGISTER = Lock()


def _compiled(network: UNet, options: dict[str, object], shape: tuple[int, ...]) -> ov.CompiledModel:
    return _CORE.compile_model(graph(network, shape), "CPU", options)


def _fill(target: Tensor, batch: Tensor) -> None:
    """Writes (B, C, x, y, z) to the beginning of each axis of (B, C, X, Y, Z), and background after it."""
    for axis, size in enumerate(batch.shape):
        target.narrow(axis, size, target.shape[axis] - size).zero_()
    target[:, :, : batch.shape[2], : batch.shape[3], : batch.shape[4]].copy_(batch)


def graph(network: UNet, shape: tuple[int, ...]) -> ov.Model:
    """The network for one input shape (B, C, X, Y, Z); it shares its parameters. Output 0: as of `Engine`.

    The other outputs serve precision alone: OpenVINO computes in float32 if no convolution lies between a node and an
    output. bf16 is too coarse for a mean of millions of voxels.
    """
    levels = network.config.levels
    exact: list[ov.Output] = []
    source = op.parameter(list(shape), np.float32)
    x = _block(source, network.stem, exact) if network.config.residual else source
    skips = []
    for level in range(1, levels + 1):
        x = _block(x, network.down[str(level)], exact)
        skips.append(x)
    skips.pop()  # the bottom is x itself
    for level in range(levels - 1, 0, -1):
        up = network.up[str(level)]
        assert isinstance(up, UpBlock)
        x = _block(op.concat([_enlarged(x, up.up), skips.pop()], 1), up.block, exact)
    head = network.heads["1"]
    assert isinstance(head, nn.Conv3d)
    logits = _biased(_convolution(x, head), head.bias)
    result = logits if network.config.logits else op.sigmoid(logits)
    return ov.Model([result.output(0), *exact], [source], "unet")


def _block(x: ov.Node, block: nn.Module, exact: list[ov.Output]) -> ov.Node:
    """A level's convolutions, each with instance norm and leaky ReLU, or its residual blocks; without dropout."""
    if isinstance(block, ResidualLevel):
        for residual in block.blocks:
            assert isinstance(residual, ResidualBlock)
            x = _residual(x, residual, exact)
        return x
    assert isinstance(block, ConvBlock)
    for convolution, norm in block.layers:
        x = _activated(_normed(_convolution(x, convolution), norm, exact), block.act)
    return x


def _residual(x: ov.Node, block: ResidualBlock, exact: list[ov.Output]) -> ov.Node:
    first, second = block.layers
    main = _activated(_normed(_convolution(x, first[0]), first[1], exact), block.act)
    main = _normed(_convolution(main, second[0]), second[1], exact)
    if isinstance(block.pool, nn.AvgPool3d):
        sides, none = list(block.conv1.stride), [0] * 3
        x = op.avg_pool(x, sides, none, none, sides, False)
    if block.projects:
        x = _normed(_convolution(x, block.project), block.project_norm, exact)
    return _activated(op.add(main, x), block.act)


def _activated(x: ov.Node, act: nn.LeakyReLU) -> ov.Node:
    return op.prelu(x, op.constant(np.array([act.negative_slope], np.float32)))


def _enlarged(x: ov.Node, up: nn.ConvTranspose3d) -> ov.Node:
    none, ones, stride = [0] * 3, [1] * 3, list(up.stride)
    wide = op.convolution_backprop_data(x, _constant(up.weight), stride, pads_begin=none, pads_end=none, dilations=ones)
    return _biased(wide, up.bias)


def _biased(x: ov.Node, bias: Tensor | None) -> ov.Node:
    return x if bias is None else op.add(x, _constant(bias, per_channel=True))


def _convolution(x: ov.Node, layer: nn.Conv3d) -> ov.Node:
    """A convolution without its bias: a norm that follows removes it."""
    stride, padding, dilation = list(layer.stride), list(layer.padding), list(layer.dilation)
    return op.convolution(x, _constant(layer.weight), stride, padding, padding, dilation)


def _normed(x: ov.Node, norm: nn.InstanceNorm3d, exact: list[ov.Output]) -> ov.Node:
    small = math.prod(x.get_output_shape(0)[2:]) <= MVN_VOXELS
    return _instance_norm(x, norm) if small else _exact_norm(x, norm, exact)


def _instance_norm(x: ov.Node, layer: nn.InstanceNorm3d) -> ov.Node:
    """gamma (x - mean) / sqrt(var + eps) + beta, each channel of each case over its voxels."""
    gamma, beta = _constant(layer.weight, per_channel=True), _constant(layer.bias, per_channel=True)
    normalised = op.mvn(x, op.constant(np.array(SPATIAL, np.int64)), True, layer.eps, "inside_sqrt")
    return op.add(op.multiply(normalised, gamma), beta)


def _exact_norm(x: ov.Node, layer: nn.InstanceNorm3d, exact: list[ov.Output]) -> ov.Node:
    """Instance norm of many voxels, with exact sums; adds an output to `exact`.

    Rows are summed in the volume's own layout and precision. In bf16 the rounding errors of thousands of rows cancel
    out, unless nearly all rows are alike and many deviations from 0, as in no brain image.
    The exact part returns scale and shift as two bf16 numbers each. So the volume itself never becomes float32, which
    would need another layout and a conversion back.
    """
    gamma, beta = _constant(layer.weight, per_channel=True), _constant(layer.bias, per_channel=True)
    along, across = (op.constant(np.array(axes, np.int64)) for axes in (SPATIAL[-1:], SPATIAL[:-1]))
    length = _exact_from_here(op.reduce_l2(x, along, keep_dims=True))
    sums = op.concat([op.multiply(length, length), _exact_from_here(op.reduce_sum(x, along, keep_dims=True))], CHANNEL)
    share = _number(1 / math.prod(x.get_output_shape(0)[2:]))
    square, mean = _split(op.multiply(op.reduce_sum(sums, across, keep_dims=True), share), 2)
    variance = op.relu(op.subtract(square, op.multiply(mean, mean)))
    scale = op.divide(gamma, op.sqrt(op.add(variance, _number(layer.eps))))
    parts = _halves(op.concat([scale, op.subtract(beta, op.multiply(mean, scale))], CHANNEL))
    exact.append(parts.output(0))
    scale, shift, scale_rest, shift_rest = _split(parts, 4)
    return op.add(op.multiply(x, scale), op.add(op.multiply(x, scale_rest), op.add(shift, shift_rest)))


def _exact_from_here(x: ov.Node) -> ov.Node:
    """An identity convolution: the float32 part of the graph reaches no further back than this."""
    channels = x.get_output_shape(0)[CHANNEL]
    identity = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1, 1)
    return op.convolution(x, op.constant(identity), [1] * 3, [0] * 3, [0] * 3, [1] * 3)


def _halves(value: ov.Node) -> ov.Node:
    """Splits float32 into numbers that bf16 holds exactly, and as more channels their remainders (Dekker 1971)."""
    wide = op.multiply(value, _number(2**16 + 1))
    high = op.subtract(wide, op.subtract(wide, value))
    return op.concat([high, op.subtract(value, high)], CHANNEL)


def _split(x: ov.Node, parts: int) -> list[ov.Output]:
    return list(op.split(x, op.constant(np.int64(CHANNEL)), parts).outputs())


def _constant(parameter: Tensor, per_channel: bool = False) -> ov.Node:
    """A parameter as it lies in memory; with `per_channel`, as (1, C, 1, 1, 1)."""
    values = parameter.detach().contiguous()
    return op.constant((values.view(1, -1, 1, 1, 1) if per_channel else values).numpy(), shared_memory=True)


def _number(value: float) -> ov.Node:
    return op.constant(np.float32(value))
