"""Trains the brain member: skull stripping of one image of any contrast, learned from synthetic heads."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations as nio
from scipy import ndimage

from brats_infer.image.crop import CANONICAL_AXES
from brats_infer.network.devices import autocast
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.heads import Head, RealBrain, draw_head
from brats_infer.preparation.masks.scaling import SPACING, scaled
from brats_infer.train.step.losses import ce_loss, dice_loss
from brats_infer.train.step.memory_format import keep_channels_last
from model.checkpoint import save_weights
from model.config import UNetConfig
from model.unet import UNet

BRAIN_NETWORK = UNetConfig(
    channels=(12, 24, 48, 64, 96),
    modalities=1,
    regions=1,
    foreground=False,
    deep_supervision=False,
    spacing=int(SPACING),
)
SIDES = ((1.0, 1.0, 1.0), (1.0, 1.17, 1.0), (1.17, 1.34, 1.17))
"""Training images in units of 192 mm: the brain, the head, the head and the neck."""
SIDE_SHARES = (0.6, 0.25, 0.15)
COARSE = 3.0  # mm
COARSE_SHARE = 0.75
"""Of the steps: the first ones learn on coarse images, 3 times as fast. The rest have the member's 2 mm."""
REAL_SHARE = 0.4
"""Of the images: a real brain in a synthetic head."""
EMA = 0.997
SAVE_EVERY = 100


@dataclass(frozen=True)
class BrainOptions:
    """The settings of a run."""

    steps: int = 4000
    learning_rate: float = 0.001
    seed: int = 0


def train_brain(
    heads: Sequence[Head],
    brains: Sequence[RealBrain],
    options: BrainOptions,
    out: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Trains a run, or resumes the run in `out`. Returns its weights, a mean over the last steps."""
    out.mkdir(parents=True, exist_ok=True)
    network, mean = UNet(BRAIN_NETWORK), UNet(BRAIN_NETWORK)
    mean.load_state_dict(network.state_dict())
    keep_channels_last(network)
    optimizer = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=1e-4)
    step, state = 0, out / "last.pt"
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        mean.load_state_dict(saved["mean"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
    losses: list[float] = []
    started = time.monotonic()
    while step < options.steps:
        rate = options.learning_rate * 0.5 * (1 + math.cos(math.pi * step / options.steps)) * min(1, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = rate
        spacing = COARSE if step < COARSE_SHARE * options.steps else SPACING
        losses.append(_step(network, optimizer, heads, brains, spacing, (options.seed, step)))
        step += 1
        with torch.no_grad():
            for kept, now in zip(mean.parameters(), network.parameters(), strict=True):
                kept.lerp_(now, 1 - min(EMA, step / (step + 10)))
        if step % SAVE_EVERY == 0 or step == options.steps:
            parts = {"network": network.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**parts, "step": step}, state)
            save_weights(out / "best.safetensors", mean)
            tell(f"step {step} of {options.steps}; loss {np.mean(losses):.4f}; {time.monotonic() - started:.0f} s")
            losses = []
    (out / "settings.json").write_text(json.dumps({"network": BRAIN_NETWORK.to_json(), **asdict(options)}, indent=2))
    return out / "best.safetensors"


def _step(
    network: UNet,
    optimizer: torch.optim.Optimizer,
    heads: Sequence[Head],
    brains: Sequence[RealBrain],
    spacing: float,
    seed: tuple[int, int],
) -> float:
    """One step on one head; returns its loss."""
    draw = Draw(np.random.default_rng(seed), torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1]))
    x, y, z = (16 * round(12 * part / spacing) for part in SIDES[int(draw.rng.choice(len(SIDES), p=SIDE_SHARES))])
    real = brains[int(draw.rng.integers(len(brains)))] if brains and draw.chance(REAL_SHARE) else None
    drawn = draw_head(draw, heads, (x, y, z), spacing, real)
    inputs = torch.from_numpy(scaled(drawn.image.numpy()))[None, None].to(memory_format=torch.channels_last_3d)
    target = drawn.brain[None, None].clone()
    with autocast(torch.device("cpu")):
        logits = network(inputs).float()
    loss = dice_loss(logits, target) + ce_loss(logits, target)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
    optimizer.step()
    return float(loss.detach())


@dataclass(frozen=True)
class RealBrains(Sequence[RealBrain]):
    """Skull-stripped images, each read when it is drawn."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> RealBrain: ...

    @overload
    def __getitem__(self, index: slice) -> "RealBrains": ...

    def __getitem__(self, index: int | slice) -> "RealBrain | RealBrains":
        return RealBrains(self.paths[index]) if isinstance(index, slice) else read_real_brain(self.paths[index])


def read_real_brain(path: Path) -> RealBrain:
    """A skull-stripped NIfTI of 1 mm (BraTS) -> its intensities from 0 to about 1, and its brain."""
    image = nib.load(path)
    turn = nio.ornt_transform(nio.io_orientation(image.affine), nio.axcodes2ornt(CANONICAL_AXES))
    data = np.ascontiguousarray(nio.apply_orientation(np.asarray(image.dataobj, np.float32), turn))
    brain = ndimage.binary_fill_holes(data != 0)
    data -= min(0.0, float(data[brain].min()))
    data /= max(float(np.percentile(data[brain], 99)), 1e-6)
    return RealBrain(torch.from_numpy(data), torch.from_numpy(brain))
