"""How well raw scans are prepared: errors of registrations, overlap of brain masks. The table of docs/prepare.md.

    python benchmarks/prepare.py registration DATA [--tries 20]
    python benchmarks/prepare.py stripping HEADS [--data DATA] [--tries 6]
    python benchmarks/prepare.py roundtrip DATA [--tries 10]

`roundtrip` moves the contrasts of labelled cases, makes maps on them with `brats-opt --raw`, and scores these maps
beside those of the cases as they are. DATA holds skull-stripped cases of BraTS, HEADS label maps of whole heads with
SynthSeg's codes. Neither was trained on.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer import segment
from brats_infer.evaluate.label_maps import read_reference
from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases
from brats_infer.phantom.fields import Draw, sample
from brats_infer.phantom.heads import Head, draw_head, load_heads
from brats_infer.preparation.masks.brain import BrainMember, largest, mask_of_stripped
from brats_infer.preparation.registration.register import brain_points, register, registration_copy
from brats_infer.tasks import Task, task_named
from brats_infer.train.brain import read_real_brain
from brats_infer.train.data.labelled import references_of

ANGLE, SHIFT = 20.0, 40.0  # degrees, mm
THICK = 5.0  # mm
SIDES = (260, 260, 200)  # mm
HEAD = (192, 224, 192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["registration", "stripping", "roundtrip"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tries", type=int, default=6)
    given = parser.parse_args()
    if given.what == "registration":
        _registrations(find_cases(given.folder, "gli"), given.tries)
        return
    if given.what == "roundtrip":
        _roundtrips(given.folder, given.tries)
        return
    heads = load_heads(given.folder)
    _overlaps("synthetic", heads, [None] * given.tries)
    if given.data:
        cases = find_cases(given.data, "gli")
        _overlaps("real brains", heads, cases[:: max(1, len(cases) // given.tries)], references_of(given.data, cases))


def _registrations(cases: Sequence[Case], tries: int) -> None:
    """A contrast in thick slices to a T1c, both moved; the mean error over the brain."""
    rng = np.random.default_rng(5)
    errors = []
    for number in range(tries):
        case = cases[number * 7 % len(cases)]
        contrast = ("t1n", "t2w", "t2f")[number % 3]
        fixed, there = _moved(case.paths["t1c"], rng, 2, (1.0, THICK)[number % 2])
        moving, place = _moved(case.paths[contrast], rng, int(rng.integers(3)), THICK)
        copy = registration_copy(fixed, mask_of_stripped(fixed))
        found = register(copy, registration_copy(moving, mask_of_stripped(moving)))
        back = place.GetInverse()
        points = brain_points(copy.brain).tolist()
        true = np.array([back.TransformPoint(there.TransformPoint(point)) for point in points])
        error = np.linalg.norm(
            np.array([found.transform.TransformPoint(point) for point in points]) - true, axis=1
        ).mean()
        errors.append(float(error))
        print(f"{case.id} {contrast}: {error:.2f} mm, {found.text}{', failed' if found.failed else ''}", flush=True)
    print(f"{sum(error < 1 for error in errors)} of {tries} below 1 mm; median {np.median(errors):.2f} mm")


def _moved(
    path: Path, rng: np.random.Generator, axis: int, thickness: float
) -> tuple[sitk.Image, sitk.Euler3DTransform]:
    """The image seen elsewhere in slices, and the transform: a point of the scan -> a point of the image."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path), sitk.sitkFloat32), "LPS")
    angles, shift = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 3)
    angles *= np.deg2rad(ANGLE) * rng.uniform() / np.abs(angles).max()
    shift *= SHIFT * rng.uniform() / np.linalg.norm(shift)
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    place = sitk.Euler3DTransform(centre, *angles.tolist(), tuple(shift.tolist()))
    spacing = [0.9, 0.9, 0.9]
    spacing[axis] = thickness
    size = [int(np.ceil(side / mm)) for side, mm in zip(SIDES, spacing, strict=True)]
    origin = [c - s - (n - 1) * mm / 2 for c, s, n, mm in zip(centre, shift.tolist(), size, spacing, strict=True)]
    direction = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    smooth = sitk.RecursiveGaussian(image, thickness / 2.355, direction=axis) if thickness > 2 else image
    scan = sitk.Resample(smooth, size, place, sitk.sitkLinear, origin, spacing, direction)
    mask = sitk.Resample(image != 0, size, place, sitk.sitkNearestNeighbor, origin, spacing, direction)
    return sitk.Mask(scan, mask), place


def _roundtrips(folder: Path, tries: int) -> None:
    """Dice of maps on moved scans against the expert's there, and of the map of the case as it is."""
    task, rng = task_named("gli"), np.random.default_rng(11)
    cases = find_cases(folder, task.name)
    references = references_of(folder, cases)
    chosen = [case for case in cases if case.id in references and read_reference(references[case.id], task).data.any()]
    rows = []
    for case in chosen[:: max(1, len(chosen) // tries)][:tries]:
        itself = segment(case.paths, task=task.name, device="cpu")
        true = read_reference(references[case.id], task).data
        row = [_dice(itself.labels, true, task)]
        with TemporaryDirectory() as work:
            study, places = Path(work) / "studies" / case.id, {}
            study.mkdir(parents=True)
            for name, path in case.paths.items():
                scan, places[name] = _moved(path, rng, int(rng.integers(3)), 1.0 if name == "t1c" else THICK)
                sitk.WriteImage(sitk.Cast(scan, sitk.sitkInt16), str(study / f"{name}.nii.gz"))
            command = ["--raw", "--input", str(study.parent), "--output", f"{work}/out", "--task", task.name, "--quiet"]
            subprocess.run([sys.executable, "entrypoint.py", *command, "--device", "cpu"], check=True)
            expert = sitk.DICOMOrient(sitk.ReadImage(str(references[case.id]), sitk.sitkUInt8), "LPS")
            for name, place in places.items():
                found = sitk.ReadImage(f"{work}/out/native/{case.id}/{case.id}-on-{name}.nii.gz")
                row.append(_dice(sitk.GetArrayFromImage(found), _seen_there(expert, place, found), task))
        rows.append(row)
        print(
            f"{case.id}: as it is {np.round(row[0], 3)}, on its scans {np.round(np.mean(row[1:], axis=0), 3)}",
            flush=True,
        )
    means = np.array([[row[0], np.mean(row[1:], axis=0)] for row in rows]).mean(axis=0)
    print(f"mean of {len(rows)}: as they are {np.round(means[0], 3)}, on the scans {np.round(means[1], 3)}")


def _dice(found: NDArray[np.integer], true: NDArray[np.integer], task: Task) -> list[float]:
    """Of each region; 1 where both are empty."""
    pairs = [(np.isin(found, region.labels), np.isin(true, region.labels)) for region in task.regions]
    return [
        2 * np.count_nonzero(a & b) / n if (n := np.count_nonzero(a) + np.count_nonzero(b)) else 1.0 for a, b in pairs
    ]


def _seen_there(labels: sitk.Image, place: sitk.Euler3DTransform, scan: sitk.Image) -> NDArray[np.uint8]:
    """A map on the scan's grid, (Z, Y, X): the nested region that at least half of a voxel's thickness belongs to."""
    axis, parts = int(np.argmax(scan.GetSpacing())), 5
    size, spacing, origin = list(scan.GetSize()), list(scan.GetSpacing()), list(scan.GetOrigin())
    size[axis] *= parts
    spacing[axis] /= parts
    origin[axis] -= spacing[axis] * (parts - 1) / 2
    fine = sitk.Resample(labels, size, place, sitk.sitkNearestNeighbor, origin, spacing, scan.GetDirection())
    z_axis = 2 - axis
    layers = np.moveaxis(sitk.GetArrayFromImage(fine), z_axis, -1)
    layers = layers.reshape(*layers.shape[:-1], -1, parts)
    out = np.zeros(layers.shape[:-1], np.uint8)
    for label, inside in ((2, (1, 2, 3)), (1, (1, 3)), (3, (3,))):
        out[np.isin(layers, inside).mean(axis=-1) >= 0.5] = label
    return np.moveaxis(out, -1, z_axis)


def _overlaps(
    what: str,
    heads: Sequence[Head],
    cases: Sequence[Case | None],
    references: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Dice of the member's mask in synthetic heads, around one contrast of a case or None.

    Of a case with labels, the share of the tumor that is inside the mask.
    """
    member, found, kept = BrainMember(), [], []
    for number, case in enumerate(cases):
        real = read_real_brain(tuple(case.paths.values())[number % len(case.paths)]) if case else None
        drawn = draw_head(Draw.of_seed(1000 + number, torch.device("cpu")), heads, HEAD, 1.0, real)
        scan = sitk.GetImageFromArray(np.ascontiguousarray(drawn.image.numpy().T))
        probability = sitk.GetArrayFromImage(sitk.Resample(member.probability(scan), scan)).T
        mask, true = ndimage.binary_fill_holes(largest(probability > 0.5)), drawn.brain.numpy() > 0.5
        found.append(2 * np.count_nonzero(mask & true) / max(1, np.count_nonzero(mask) + np.count_nonzero(true)))
        name, rest = case.id if case else str(number), ""
        if case and case.id in references:
            labels = read_real_brain(references[case.id]).brain  # all that is not 0
            tumor = (sample(labels[None], drawn.places, "bilinear")[0].numpy() > 0.5) & true
            if tumor.any():
                kept.append(float(mask[tumor].mean()))
                rest = f", {kept[-1]:.4f} of the tumor inside"
        print(f"{what} {name}: Dice {found[-1]:.3f}{rest}", flush=True)
    print(f"{what}: mean {np.mean(found):.3f}, median {np.median(found):.3f}")
    if kept:
        enough = f"{sum(share >= 0.99 for share in kept)} of {len(kept)} at 0.99"
        print(f"tumor inside: mean {np.mean(kept):.4f}, least {min(kept):.4f}; {enough}")


if __name__ == "__main__":
    main()
