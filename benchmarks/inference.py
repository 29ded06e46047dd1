"""Seconds, memory and labels of a case through ours, MONAI and nnU-Net v2, with the same network and weights.

    python benchmarks/inference.py [--member weights/gli-0.safetensors] [--channels 64,96,128,192,256,384,512]
                                   [--window 128] [--modes sliding-window,coarse-to-fine]
                                   [--peers monai,monai-cropped,nnunet] [--case FOLDER] [--cases 1] [--rounds 5]
                                   [--device auto] [--flips]

A run begins with four NIfTI files and ends with a written label map. Each contender has a process of its own, and all
run in turns; a first run, in which things are compiled and cached, does not count.

- ours: `segment_folder`, from the first file opened to the last one written; compiling the network counts, as it does
  so in every run. `first` and `MiB` are of the command `brats-opt`, whole: its start, imports and loading of weights
  are in them.
- MONAI: `sliding_window_inference` on the whole volume, windows of the member's size, overlap 0.5, Gaussian weights,
  one window at a time, float32, between LoadImaged, NormalizeIntensityd and SaveImage. `monai-cropped`: the same on the
  brain alone, cropped as ours is, so that the windows lie alike.
- nnU-Net: `nnUNetPredictor` on the volume cropped to the brain, as it does by itself, tile_step_size 0.5, Gaussian
  weights, mirroring as ours with `--flips`, from SimpleITK to SimpleITK without further processes; float32 on the
  CPU, fp16 on a GPU.
  `first` and `MiB` of the peers are of their process, from its start to the first run's end, and at most.
- the floor: our network's forward passes alone, on the windows or the padded brain that it gets for this case. How far
  they are from what the machine can do is told by torch's product of two large matrices in the same precision.

Peers average what ours averages, probabilities, and take our thresholds; neither removes components, and for the
comparison ours keeps them too (`--dust 0 --component-probability 0`; the times are of the default). All normalise each
modality over its voxels that are not 0. Dice is between a label map and that of ours in the first of `--modes`.

With `--channels` the network has that width and depth and computes what the member does (`inference_widened.py`).

With `--cases N`, N copies of the case are in the folder, and seconds are those of one case.

Peers that are not installed are left out: `pip install --editable '.[bench]'` adds them.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from inference_contenders import TASK, Answer, Job
from inference_inputs import copy_case, refuse_for_peers, sample_case, weights_of
from inference_process import Process, run_command

from brats_infer.files.labels import read_labels
from brats_infer.labelling.regions import regions_from_labels
from brats_infer.network.devices import limit_threads
from brats_infer.network.loading import pick_device
from brats_infer.settings import Mode

REPOSITORY = Path(__file__).parents[1]
PEERS = {
    "monai": ("MONAI", "monai"),
    "monai-cropped": ("MONAI, cropped", "monai"),
    "nnunet": ("nnU-Net", "nnunetv2"),
}
OURS, FLOOR = "ours", "floor"


@dataclass
class Row:
    """A contender and what it took."""

    name: str
    job: Job
    process: Process | None = None
    answers: list[Answer] = field(default_factory=list)
    """Without the first."""
    first: list[float] = field(default_factory=list)
    peak: float = 0.0
    compiling: float = 0.0
    """Seconds by which the first run was longer than the others."""

    def seconds(self, cases: int) -> list[float]:
        """Of one case, each round."""
        return [answer.seconds / cases for answer in self.answers]

    def median(self, cases: int) -> float:
        return statistics.median(self.seconds(cases))


def measure(rows: Sequence[Row], rounds: int) -> None:
    """In turns, after a round that does not count; the command only in the others."""
    for number in range(rounds + 1):
        for row in rows:
            if not row.process:
                row.process = Process(row.job)
            answer = row.process.run()
            if number == 0:
                row.first, row.compiling = [row.process.first_run], answer.seconds
                continue
            row.answers.append(answer)
            if row.job.contender == OURS:
                command(row, first=number == 1)
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    for row in rows:
        assert row.process
        peak = row.process.end()
        row.peak = row.peak or peak
        row.compiling -= statistics.median(answer.seconds for answer in row.answers)


def command(row: Row, first: bool) -> None:
    """`brats-opt` as a user starts it."""
    job = row.job
    output = job.output.with_name(f"{job.output.name}-command")
    folders = ("--input", job.input, "--output", output, "--weights", job.weights)
    options = ("--task", TASK.name, "--mode", job.mode, "--device", job.device)
    options = (*options, "--flips" if job.flips else "--no-flips")
    log = output.with_suffix(".log")
    seconds, peak = run_command([sys.executable, REPOSITORY / "entrypoint.py", *folders, *options], log)
    row.first = [seconds] if first else [*row.first, seconds]
    row.peak = max(row.peak, peak)


def report(rows: Sequence[Row], cases: int, gpu: bool) -> None:
    """The table, then ours in detail."""
    ours = [row for row in rows if row.job.contender == OURS]
    modes = "".join(f"{'/ ' + row.job.mode:>12}" for row in ours)
    names = "".join(f"{region.name:>7}" for region in TASK.regions)
    print(f"{'seconds a case':22}{'min':>9}{'median':>9}{modes}{'first':>9}{'MiB':>8}", end="")
    print(f"{'GPU MiB' if gpu else '':>9}{'Dice' + names:>26}")
    for row in rows:
        if row.job.contender == FLOOR:
            continue
        ratios = "".join(f"{row.median(cases) / one.median(cases):12.2f}" for one in ours)
        print(f"{row.name:22}{min(row.seconds(cases)):9.3f}{row.median(cases):9.3f}{ratios}", end="")
        print(f"{statistics.median(row.first):9.2f}{row.peak:8.0f}", end="")
        print(f"{max(a.gpu_mib for a in row.answers):9.0f}" if gpu else f"{'':9}", end="     ")
        print("".join(f"{dice:7.4f}" for dice in overlaps(row.job, ours[0].job)))
    for one in ours:
        [floor] = [row for row in rows if row.job.contender == FLOOR and row.job.mode == one.job.mode]
        detail(one, floor, cases)


def detail(ours: Row, floor: Row, cases: int) -> None:
    """Our stages, the network's passes alone, and how much longer we take."""
    stages = {
        stage: statistics.median(answer.stages[stage] / cases for answer in ours.answers)
        for stage in ours.answers[0].stages
    }
    alone = floor.median(cases)
    whole = statistics.median(answer.whole / cases for answer in ours.answers)
    print(f"\n{ours.job.mode}, ms of one case: ", end="")
    print(", ".join(f"{stage} {1000 * seconds:.0f}" for stage, seconds in stages.items()))
    print(f"forward passes alone ({floor.answers[0].passes}): {1000 * alone:.0f} ms", end="")
    print(f"; first run {1000 * floor.compiling:+.0f} ms, where it compiles")
    flop, product = floor.answers[0].flop / cases, max(answer.product for answer in floor.answers)
    print(f"they are {flop / 1e9:.0f} GFLOP, {flop / alone / 1e9:.0f} GFLOP/s", end="")
    print(f"; a product of large matrices does {product / 1e9:.0f} GFLOP/s")
    print(f"beyond them: {100 * (ours.median(cases) / alone - 1):.1f} %", end="")
    print(f", with finding cases and loading weights {100 * (whole / alone - 1):.1f} %", end="")
    steady = statistics.median(answer.steady for answer in ours.answers)
    print(f", from end to end of the middle half {100 * (steady / alone - 1):.1f} %" if cases > 1 else "")


def overlaps(job: Job, other: Job) -> list[float]:
    """Dice of each region, over the first case's two label maps; 1 where both have none."""
    [name, *_] = sorted(path.name for path in other.output.glob("*.nii.gz"))
    one, two = (regions_from_labels(read_labels(of.output / name)[0], TASK) for of in (job, other))
    return [
        float(2 * (a & b).sum() / (a.sum() + b.sum())) if a.any() or b.any() else 1.0
        for a, b in zip(one, two, strict=True)
    ]


def rows_of(given: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """Ours and its floor in each mode, then the peers."""

    def row(name: str, contender: str, mode: str = Mode.SLIDING_WINDOW) -> Row:
        output = folder / f"{contender}-{mode}"
        output.mkdir()
        return Row(name, Job(contender, folder / "input", output, folder / "weights", given.device, mode, given.flips))

    for mode in given.modes:
        yield row(f"ours, {mode}", OURS, mode)
        yield row(f"floor, {mode}", FLOOR, mode)
    for peer in given.peers:
        name, package = PEERS[peer]
        if find_spec(package):
            yield row(f"{name} {version(package)}", peer)
        else:
            print(f"{peer} is left out (no {package}): pip install --editable '.[bench]'")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--member", type=Path, default=REPOSITORY / "weights" / "gli-0.safetensors")
    parser.add_argument("--channels", help="of a wider network that computes what the member does")
    parser.add_argument("--window", type=int, help="side in voxels of windows; default: the member's")
    parser.add_argument("--case", type=Path, help="its folder; default: a real one of ../shared, else a phantom")
    parser.add_argument("--cases", type=int, default=1, help="copies of it in the folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modes", default="sliding-window,coarse-to-fine", help="of ours")
    parser.add_argument("--peers", default="monai,monai-cropped,nnunet", help="may be empty")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--flips", action="store_true", help="the mean over eight mirror images; MONAI has none")
    given = parser.parse_args()
    if given.flips and any(peer.startswith("monai") for peer in given.peers.split(",")):
        parser.error("--flips: MONAI's windows have none: give --peers nnunet or --peers ''")
    for option, known in (("modes", list(Mode)), ("peers", list(PEERS))):
        names = [name for name in getattr(given, option).split(",") if name]
        if not set(names) <= set(known):
            parser.error(f"--{option}: choose of {', '.join(known)}")
        setattr(given, option, names)
    if min(given.cases, given.rounds, len(given.modes)) < 1:
        parser.error("--cases and --rounds must be at least 1, and --modes name one")
    return given


def main() -> None:
    given = arguments()
    device = pick_device(given.device)
    given.device = str(device)
    limit_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = sample_case(given.case, folder)
        copy_case(case, given.cases, folder / "input")
        member = weights_of(given, folder / "weights")
        if given.peers:
            refuse_for_peers(member, case)
        rows = list(rows_of(given, folder))
        where = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        )
        print(f"{where}; {case.id}, {given.cases} times; {member.file}, channels", *member.config.channels, end="; ")
        print(f"windows of {'x'.join(map(str, member.window))}; {given.rounds} rounds", flush=True)
        measure(rows, given.rounds)
        report(rows, given.cases, device.type == "cuda")


if __name__ == "__main__":
    main()
