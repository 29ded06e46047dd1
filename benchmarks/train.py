"""Patches a second of one training step: ours beside those of nnU-Net v2 and MONAI.

    python benchmarks/train.py [--device auto] [--patch 64] [--channels 16,32,64,96,128] [--batch 1] [--rounds 7]
                               [--peers nnunet,monai] [--patches 4] [--threads 2]

A step draws and augments a batch, passes the network forward and back, clips the gradients and steps the optimiser.
All have the same network (`model.unet.UNet`, four modalities, three regions, three heads), the same patch, batch and
precision (bf16 where the device computes in it), and the same case, a phantom. Everything runs in this process, one
after the other, in turns: of every round's means the median is printed, then ours over the better peer's.

- ours: a step of `brats_infer.train.loop`, the running mean of the parameters included; Adam.
- nnU-Net: its trainer, of which only the set-up is replaced (no planned data set is needed): its data loader and
  blosc2 files, `get_training_transforms`, Dice and cross-entropy on regions, SGD, `train_step`. Its rule gives the
  last head no weight. Its gradient scaler is left out, which bf16 does not need.
- compiled, channels-last: ours with `torch.compile`, and in that memory layout; only when asked for.
- MONAI: the recipe segresnet of auto3dseg with crops by class, its default augmentation, the loss (`DiceCELoss` in
  `DeepSupervisionLoss`), AdamW, memory layout `channels_last_3d` and a cache in memory. It does not clip.

What this does not compare: each draws by its own recipe, with other transforms at other odds (turned and scaled: half
of our patches, a third of nnU-Net's, a fifth of MONAI's). Peers draw in background processes, which hides drawing on
a machine with cores to spare, and nnU-Net compiles its network on a GPU: here neither is done. nnU-Net holds its
transforms to one thread; so compare the processor times too, or give `--threads 1`. Neither the networks of the peers
nor how well any of them learns is looked at.

Peers that are not installed are left out: `pip install --editable '.[bench]'` adds them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from train_peers import PEERS, contenders_of
from train_steps import Contender, Setting

from brats_infer.image.normalise import Normalisation
from brats_infer.network.devices import autocast
from brats_infer.network.loading import pick_device
from brats_infer.phantom.write import write_cohort
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import TrainingCase, load_split
from brats_infer.train.run_config import TrainConfig
from model.config import PAPER_CHANNELS

ON_CPU, ON_GPU = (64, (16, 32, 64, 96, 128)), (128, PAPER_CHANNELS)


@dataclass
class Times:
    """Wall and processor seconds a batch, one pair a round."""

    step: list[tuple[float, float]] = field(default_factory=list)
    passes: list[tuple[float, float]] = field(default_factory=list)
    """The network forward, the loss, and back."""
    draw: list[tuple[float, float]] = field(default_factory=list)


def measure(contenders: Sequence[Contender], rounds: int, steps: int, device: torch.device) -> list[Times]:
    """In turns, after a round that does not count."""
    times: list[Times] = []
    for number in range(rounds + 1):
        if number <= 1:
            times = [Times() for _ in contenders]
        for contender, of in zip(contenders, times, strict=True):
            of.step.append(timed(contender.step, steps, device))
        for contender, of in zip(contenders, times, strict=True):
            of.draw.append(timed(contender.draw, 2 * steps, device))
        for contender, of in zip(contenders, times, strict=True):
            batch = contender.draw()
            of.passes.append(timed(lambda c=contender, b=batch: c.loss(b).backward(), steps, device))
    return times


def timed(work: Callable[[], object], repeats: int, device: torch.device) -> tuple[float, float]:
    """Mean wall and processor seconds."""
    finish(device)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    finish(device)
    return (time.perf_counter() - wall) / repeats, (time.process_time() - processor) / repeats


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(contenders: Sequence[Contender], times: Sequence[Times], batch: int) -> None:
    """The medians, then ours over the better peer's."""
    print(f"{'ms a batch: wall (processor)':30}{'patches/s':>10}{'step':>16}{'network, loss':>16}{'drawing':>16}")
    walls, processors = (
        [[statistics.median(pair[clock] for pair in pairs) for pairs in (of.step, of.passes, of.draw)] for of in times]
        for clock in (0, 1)
    )
    for contender, wall, processor in zip(contenders, walls, processors, strict=True):
        cells = (f"{1000 * w:.0f} ({1000 * p:.0f})" for w, p in zip(wall, processor, strict=True))
        print(f"{contender.name:30}{batch / wall[0]:10.3f}" + "".join(f"{cell:>16}" for cell in cells))
    if len(contenders) > 1:
        wall, processor = (over_better(rows) for rows in (walls, processors))
        cells = (f"{w:.2f} ({p:.2f})" for w, p in zip(wall, processor, strict=True))
        print(f"{'ours / the better peer':30}{1 / wall[0]:10.2f}" + "".join(f"{cell:>16}" for cell in cells))


def over_better(rows: Sequence[Sequence[float]]) -> list[float]:
    """Of each column, the first row's time over the shortest of the others."""
    return [ours / min(peers) for ours, *peers in zip(*rows, strict=True)]


def phantom_case(folder: Path) -> TrainingCase:
    """An ellipsoid brain with a tumor, on the challenges' grid, preprocessed and cached as for training."""
    list(write_cohort(folder / "cases", "gli", 1, seed=0))
    split = load_split(folder / "cases", "gli", (), (), Normalisation.ZSCORE, folder / "cache")
    return split.training[0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--patch", type=int, help=f"side in voxels: {ON_CPU[0]} on the CPU, {ON_GPU[0]} on a GPU")
    parser.add_argument("--channels", help="feature maps of each level, such as 16,32,64")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--peers", default="nnunet,monai", help=f"which of {', '.join(PEERS)}, with commas; may be empty"
    )
    parser.add_argument("--patches", type=int, default=4, help="batches drawn and steps made in a round")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it chooses")
    given = parser.parse_args()
    given.peers = [name for name in given.peers.split(",") if name]
    if unknown := set(given.peers) - set(PEERS):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}: choose of {', '.join(PEERS)}")
    return given


def main() -> None:
    given = arguments()
    device = pick_device(given.device)
    if given.threads:
        torch.set_num_threads(given.threads)
    side, channels = ON_GPU if device.type == "cuda" else ON_CPU
    side = given.patch or side
    channels = tuple(int(c) for c in given.channels.split(",")) if given.channels else channels
    config = TrainConfig(
        TrainOptions(channels=channels, foreground=False, normalisation="zscore", patch=side, batch=given.batch)
    )
    network = config.network
    if not network.fits(config.patch):
        raise SystemExit(f"--patch {side}: choose a larger multiple of {network.multiple}, or fewer --channels")
    with autocast(device):
        precision = "bf16" if torch.is_autocast_enabled(device.type) else "float32"
    print(
        f"{device} in {precision}, {torch.get_num_threads()} threads, patches of {side}^3, batch {given.batch}", end=""
    )
    print(f", channels {channels}, {given.rounds} rounds of {given.patches}")
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(config, device, phantom_case(Path(name)), Path(name))
        contenders = contenders_of(setting, given.peers)
        report(contenders, measure(contenders, given.rounds, given.patches, device), given.batch)


if __name__ == "__main__":
    main()
