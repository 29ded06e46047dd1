"""How many of a tumor's voxels get the label that torch finds in float32 from the engine of this machine.

    python benchmarks/precision.py CASES [--task gli] [--weights weights] [--mode coarse-to-fine] [--device auto]
                                         [--rounded fp16|bf16|int8]

CASES is an input folder of `brats-opt`. Printed is a line a case: the share among the voxels that are tumor in
float32, before components are removed. `--rounded`: not from this machine's engine, but from torch whose layers add up
in float32 and take and give rounded numbers, as a GPU's do; the line then ends with the largest one so far, of which
fp16 holds 65504. In int8 weights have a scale an output channel, and what layers take has one a tensor, the best of
four; what they give, the first convolution and the head stay in float32.
"""

import argparse
import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from brats_infer.labelling.thresholds import labels_from_probabilities
from torch import Tensor, nn

from brats_infer.files.cases import find_cases
from brats_infer.files.nifti import read_images
from brats_infer.image.crop import crop_to_brain
from brats_infer.labelling.postprocess import keep_brain
from brats_infer.network.devices import DTYPES, limit_threads, pick_device
from brats_infer.network.engines import Engine, TorchEngine, engine_name
from brats_infer.network.ensemble import SHIPPED_WEIGHTS, Ensemble, load_ensemble
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from model.unet import UNet

ROUNDED_TO = {"fp16": DTYPES["fp16"], "bf16": DTYPES["bf16"], "int8": torch.int8}


@dataclass
class Rounding:
    """Makes engines whose layers' weights, inputs and outputs are rounded to `dtype`, or as the module says of int8."""

    dtype: torch.dtype
    largest: float = field(default=0.0, init=False)

    def engine(self, network: UNet, device: torch.device) -> Engine:
        network = copy.deepcopy(network).to(device)
        in_steps = self.dtype == torch.int8
        outer = {network.down["1"].get_submodule("conv1"), *network.heads.values()} if in_steps else set()
        for layer in network.modules():
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d) and layer not in outer:
                outputs = 1 if isinstance(layer, nn.ConvTranspose3d) else 0
                layer.weight.data = self._rounded(layer.weight.data, outputs)
                layer.register_forward_pre_hook(lambda _, inputs: tuple(self._rounded(x) for x in inputs))
            if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d | nn.InstanceNorm3d):
                layer.register_forward_hook(self._output)
        return TorchEngine(network, device, torch.float32)

    def _rounded(self, x: Tensor, outputs: int | None = None) -> Tensor:
        """Of weights, `outputs` is the axis of the output channels."""
        if self.dtype != torch.int8:
            return x.to(self.dtype).float()
        if outputs is not None:
            return _stepped(x, x.abs().amax([axis for axis in range(x.ndim) if axis != outputs], keepdim=True) / 127)
        sample = x.flatten()[:: max(1, x.numel() // 2**18)]
        steps = [x.abs().max() / 127 / 2**halvings for halvings in range(4)]
        return _stepped(x, min(steps, key=lambda step: float((_stepped(sample, step) - sample).square().sum())))

    def _output(self, layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        self.largest = max(self.largest, float(output.abs().max()))
        return output if self.dtype == torch.int8 else self._rounded(output)


def _stepped(x: Tensor, step: Tensor) -> Tensor:
    return (x / step).round().clamp(-128, 127) * step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--task", default="gli", choices=list(TASKS))
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--mode", type=Mode, default=Mode.COARSE_TO_FINE, choices=list(Mode))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounded", choices=list(ROUNDED_TO))
    given = parser.parse_args()
    limit_threads()
    torch.backends.cudnn.allow_tf32 = False
    task, device = TASKS[given.task], pick_device(given.device)
    shipped = load_ensemble(given.weights, task, device)
    exact = Ensemble(
        shipped.members, device, shipped.references, lambda network, on: TorchEngine(network.to(on), on, torch.float32)
    )
    rounding = Rounding(ROUNDED_TO[given.rounded]) if given.rounded else None
    if rounding:
        shipped = Ensemble(shipped.members, device, shipped.references, rounding.engine)
    name = f"torch rounded to {given.rounded}" if rounding else engine_name(device)
    print(f"{name} beside torch in float32, {given.mode}, {len(shipped.members)} members")
    for case in find_cases(given.cases, task.name):
        prepared = shipped.prepare(crop_to_brain(read_images(case.paths.values())))
        found, expected = (
            keep_brain(
                labels_from_probabilities(ensemble.predict(prepared, Settings(mode=given.mode)), task).cpu().numpy(),
                prepared.brain,
            )
            for ensemble in (shipped, exact)
        )
        tumor = expected > 0
        share = f"{(found == expected)[tumor].mean():.5f} of {tumor.sum()} voxels" if tumor.any() else "no tumor"
        print(case.id, share, f"at most {rounding.largest:.0f}" if rounding else "", flush=True)


if __name__ == "__main__":
    main()
