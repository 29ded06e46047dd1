"""How well raw scans are prepared: errors of registrations, overlap of brain masks. The table of docs/prepare.md.

    python benchmarks/prepare.py registration DATA [--tries 20]
    python benchmarks/prepare.py stripping HEADS [--data DATA] [--tries 6]

DATA holds skull-stripped cases of BraTS, HEADS label maps of whole heads with SynthSeg's codes. Neither was trained on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch
from scipy import ndimage

from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases
from brats_infer.phantom.fields import Draw
from brats_infer.phantom.heads import Head, RealBrain, draw_head, load_heads
from brats_infer.preparation.masks.brain import BrainMember, largest, mask_of_stripped
from brats_infer.preparation.registration.register import brain_points, register, registration_copy
from brats_infer.train.brain import read_real_brain

ANGLE, SHIFT = 20.0, 40.0  # degrees, mm
THICK = 5.0  # mm
SIDES = (260, 260, 200)  # mm
HEAD = (192, 224, 192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["registration", "stripping"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tries", type=int, default=6)
    given = parser.parse_args()
    if given.what == "registration":
        _registrations(find_cases(given.folder, "gli"), given.tries)
        return
    heads = load_heads(given.folder)
    _overlaps("synthetic", heads, [None] * given.tries)
    if given.data:
        paths = [path for case in find_cases(given.data, "gli") for path in case.paths.values()]
        _overlaps("real brains", heads, [read_real_brain(path) for path in paths[:: max(1, len(paths) // given.tries)]])


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


def _overlaps(what: str, heads: Sequence[Head], brains: Sequence[RealBrain | None]) -> None:
    """Dice of the member's mask in synthetic heads."""
    member, found = BrainMember(), []
    for number, real in enumerate(brains):
        image, brain = draw_head(Draw.of_seed(1000 + number, torch.device("cpu")), heads, HEAD, 1.0, real)
        scan = sitk.GetImageFromArray(np.ascontiguousarray(image.numpy().T))
        probability = sitk.GetArrayFromImage(sitk.Resample(member.probability(scan), scan)).T
        mask, true = ndimage.binary_fill_holes(largest(probability > 0.5)), brain.numpy() > 0.5
        found.append(2 * np.count_nonzero(mask & true) / max(1, np.count_nonzero(mask) + np.count_nonzero(true)))
        print(f"{what} {number}: Dice {found[-1]:.3f}", flush=True)
    print(f"{what}: mean {np.mean(found):.3f}, median {np.median(found):.3f}")


if __name__ == "__main__":
    main()
