"""Imported members against nnU-Net's own predictor on whole cases: labels, probabilities, seconds.

    python benchmarks/imported.py MODEL… --peer NN/bin/python --cases FOLDER… [--patch Z,Y,X] [--speed]
                                  [--flips no|yes|both] [--engine torch|openvino]

A MODEL is a folder of nnU-Net v2, for example one of `tests/imported/models`. `--peer` is the Python of an environment
with nnunetv2 (`tests/imported/make_models.py` says how to make one). `--patch` gives the models other windows: those of
the tests are too small for a brain. A case is a folder with four images.

Without `--speed` both sides compute in float32, and nnU-Net sums in float32 as well (it sums in fp16 by itself). With
`--speed` both are as they are shipped, in one process with the cores that it may use: ours in bf16 if the processor
has it. Seconds are from reading the first file to the written label map; those of the processor do not depend on what
else runs on the machine.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer import segment_folder
from brats_infer.files.nifti import read_images
from brats_infer.imported.labels import Outputs, outputs_of
from brats_infer.imported.model import Wanted
from brats_infer.imported.nnunet import models_below
from brats_infer.imported.write import import_model
from brats_infer.network.devices import CPU, limit_threads
from brats_infer.network.engines import TorchEngine
from brats_infer.network.loading import ensemble_of
from brats_infer.network.openvino_engine import OpenVinoEngine
from brats_infer.pipeline import Labelled, label, predict, prepare
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import MODALITIES, TASKS
from model.checkpoint import load_member, read_manifest

GLI = TASKS["gli"]
PEER = Path(__file__).with_name("imported_peer.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--cases", type=Path, nargs="+", required=True)
    parser.add_argument("--patch", type=lambda text: [int(side) for side in text.split(",")])
    parser.add_argument("--engine", choices=["torch", "openvino"], default="torch", help="of ours, in float32")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--flips", choices=["no", "yes", "both"], default="both")
    given = parser.parse_args()
    limit_threads()
    for path in given.models:
        (model,) = models_below(path)
        for flips in {"no": (False,), "yes": (True,)}.get(given.flips, (False, True)):
            with tempfile.TemporaryDirectory() as work:
                folder = with_patch(model, Path(work) / "model", given.patch)
                import_model(folder, Path(work) / "weights", GLI, "for this benchmark alone", Wanted())
                lines = speeds if given.speed else agreements
                for line in lines(folder, Path(work), given, flips):
                    print(path.name, "mirrored" if flips else "plain", line, flush=True)


def with_patch(model: Path, target: Path, patch: list[int] | None) -> Path:
    """A copy of a model whose plans have another patch."""
    folder = target / model.parent.name / model.name
    shutil.copytree(model, folder)
    if patch:
        plans = json.loads((folder / "plans.json").read_text())
        for configuration in plans["configurations"].values():
            configuration["patch_size"] = patch
        (folder / "plans.json").write_text(json.dumps(plans))
    return folder


def peer_run(python: Path, folder: Path, out: Path, cases: list[Path], *options: str) -> dict[str, list[float]]:
    """nnU-Net's maps in a folder, and its [seconds, CPU seconds] for each case."""
    command = [python, PEER, folder, out, *cases, *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python}: {done.stderr.strip().splitlines()[-1]}")
    seconds: dict[str, list[float]] = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds


def agreements(folder: Path, work: Path, given: argparse.Namespace, flips: bool) -> Iterator[str]:
    cases, python = given.cases, given.peer
    options = ["--exact", "--probabilities", *(["--mirrored"] if flips else [])]
    peer_run(python, folder, work / "peer", cases, *options)
    outputs = outputs_of_model(folder)
    networks = [(member, load_member(work / "weights", member)) for member in read_manifest(work / "weights")]
    engine = {"torch": lambda network, _: TorchEngine(network, dtype=torch.float32)}.get(
        given.engine, lambda network, _: OpenVinoEngine(network, bf16=False)
    )
    ensemble = ensemble_of(GLI, networks, CPU, make_engine=engine)
    settings = Settings(mode=Mode.SLIDING_WINDOW, flips=flips)
    for case in cases:
        files = [next(case.glob(f"*{modality.name}.nii.gz")) for modality in MODALITIES]
        read = prepare(read_images(files), ensemble)
        ours: Labelled = label(predict(read, ensemble, settings), ensemble.task, settings, complete=True)
        theirs = task_labels(nib.load(work / "peer" / f"{case.name}.nii.gz").get_fdata(), folder, outputs)
        tumor = (ours.labels > 0) | (theirs > 0)
        with np.load(work / "peer" / f"{case.name}.npz") as stored:
            probabilities = task_probabilities(stored["probabilities"], outputs)
        difference = np.abs(ours.probability_maps() - probabilities)
        same, beyond = (ours.labels == theirs)[tumor].mean(), (difference > 1e-3).mean()
        apart = f"probabilities differ by {difference.max():.1e}, by more than 1e-3 in {beyond:.1e} of the voxels"
        yield f"{case.name}: {tumor.sum()} voxels of tumor, {same:.5%} agree, {apart}"


def speeds(folder: Path, work: Path, given: argparse.Namespace, flips: bool) -> Iterator[str]:
    cases, python = given.cases, given.peer
    images = work / "images"
    for case in cases:
        shutil.copytree(case, images / case.name)
    runs: dict[str, tuple[float, float, Path]] = {}
    for mode in (Mode.SLIDING_WINDOW, Mode.COARSE_TO_FINE):
        began, used = time.perf_counter(), time.process_time()
        settings = Settings(mode=mode, flips=flips)
        segment_folder(images, work / mode, task="gli", weights=work / "weights", device="cpu", settings=settings)
        runs[mode] = (time.perf_counter() - began, time.process_time() - used, work / mode)
    theirs = peer_run(python, folder, work / "peer", cases, *(["--mirrored"] if flips else []))
    (wall, cpu), outputs = (sum(each) for each in zip(*theirs.values(), strict=True)), outputs_of_model(folder)
    yield f"nnU-Net: {wall / len(cases):.1f} s a case, {cpu / len(cases):.1f} s of the processor"
    for name, (seconds, used, out) in runs.items():
        dice = [
            dice_of(
                nib.load(out / f"{case.name}.nii.gz").get_fdata(),
                task_labels(nib.load(work / "peer" / f"{case.name}.nii.gz").get_fdata(), folder, outputs),
            )
            for case in cases
        ]
        times = f"{seconds / len(cases):.1f} s a case, {used / len(cases):.1f} s of the processor"
        ratios = f"{wall / seconds:.1f} and {cpu / used:.1f} times as fast"
        yield f"{name}: {times}: {ratios}; Dice with nnU-Net's {', '.join(dice)}"


def outputs_of_model(folder: Path) -> Outputs:
    dataset = json.loads((folder / "dataset.json").read_text())
    return outputs_of(dataset["labels"], dataset.get("regions_class_order"), GLI)


def task_labels(labels: NDArray[np.floating], folder: Path, outputs: Outputs) -> NDArray[np.uint8]:
    """nnU-Net's label numbers as those of the task."""
    numbers, own = np.zeros(8, np.uint8), [region.label for region in GLI.regions]
    if outputs.background:
        numbers[list(outputs.order[1:])] = own
    else:
        written = json.loads((folder / "dataset.json").read_text())["regions_class_order"]
        numbers[[written[channel] for channel in outputs.order]] = own
    return numbers[labels.astype(int)]


def task_probabilities(found: NDArray[np.floating], outputs: Outputs) -> NDArray[np.floating]:
    """nnU-Net's probabilities (O, Z, Y, X) as those of the task's regions (R, X, Y, Z)."""
    found = found[list(outputs.order)].transpose(0, 3, 2, 1)
    return np.cumsum(found[:0:-1], axis=0)[::-1] if outputs.background else found


def dice_of(ours: NDArray[np.floating], theirs: NDArray[np.uint8]) -> str:
    """Dice of each region between two label maps."""
    parts = []
    for region in GLI.regions:
        a, b = (np.isin(labels, region.labels) for labels in (ours, theirs))
        parts.append(
            f"{region.name} {2 * np.count_nonzero(a & b) / max(1, np.count_nonzero(a) + np.count_nonzero(b)):.4f}"
        )
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
