"""What the flags "unsure" and "empty" catch: phantoms made hard, segmented, what was flagged against how good it was.

    python benchmarks/flags.py PHANTOMS WORK

`PHANTOMS` are those of `brats-opt phantom --task gli`; every tenth case is left as it is, the others get one fault.
Prints how many of the cases with a mean Dice below 0.6 are flagged, and how many of the others.
"""

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.cohort import segment_folder
from brats_infer.evaluate import evaluate_folders
from brats_infer.report import RunReport
from brats_infer.run.events import Events
from brats_infer.tasks import task_named

BAD = 0.6
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
Images = dict[str, NDArray[np.float32]]
Random = np.random.Generator


def noise(images: Images, brain: NDArray[np.bool_], by: float, rng: Random, *names: str) -> None:
    for name in names:
        images[name] = images[name] + by * images[name][brain].std() * rng.standard_normal(brain.shape)


def motion(images: Images, strength: float, rng: Random) -> None:
    """Twelve lines of k-space, measured after the head has moved along x."""
    for name, image in images.items():
        space, shift = np.fft.fftn(image), np.zeros(image.shape[1])
        at = rng.integers(0, image.shape[1], 12)
        shift[at] = rng.normal(0, strength * 6, 12)
        phase = np.exp(-2j * np.pi * np.fft.fftfreq(image.shape[0])[:, None, None] * shift[None, :, None])
        images[name] = np.fft.ifftn(space * phase).real.astype(np.float32)


def bias(images: Images, strength: float, rng: Random) -> None:
    for name, image in images.items():
        field = ndimage.zoom(rng.normal(0, 0.5 * strength, (3, 3, 3)), np.array(image.shape) / 3, order=1)
        images[name] = image * np.exp(field)


def missing(images: Images, brain: NDArray[np.bool_], name: str, rng: Random) -> None:
    """T1 in its place, as happens where files are mixed up."""
    images[name] = images["t1n"].copy()
    noise(images, brain, 0.05, rng, name)


def blur(images: Images, strength: float) -> None:
    images.update({name: ndimage.gaussian_filter(image, 2 * strength) for name, image in images.items()})


def thick_slices(images: Images) -> None:
    images.update({n: np.repeat(i[:, :, ::6], 6, axis=2)[:, :, : i.shape[2]] for n, i in images.items()})


def damage(images: Images, brain: NDArray[np.bool_], number: int, rng: Random) -> None:
    """The fault of that number of ten, in place; 0 is none."""
    strength = rng.uniform(0.5, 2)
    match number:
        case 1:
            noise(images, brain, strength, rng, "t1c", "t2f")
        case 2:
            motion(images, strength, rng)
        case 3:
            blur(images, strength)
        case 4:
            missing(images, brain, "t1c", rng)
        case 5:
            missing(images, brain, "t2f", rng)
        case 6:
            noise(images, brain, 1.2 * strength, rng, *MODALITIES)
        case 7:
            bias(images, strength, rng)
        case 8:
            images.update(t1c=images["t2f"], t2f=images["t1c"])
        case 9:
            thick_slices(images)


def make_hard(source: Path, target: Path) -> None:
    """One fault a case, by its number; labels stay."""
    for number, folder in enumerate(sorted(source.iterdir())):
        files = {name: nib.load(folder / f"{folder.name}-{name}.nii.gz") for name in MODALITIES}
        images = {name: np.asarray(file.dataobj).astype(np.float32) for name, file in files.items()}
        brain = np.any([image != 0 for image in images.values()], axis=0)
        damage(images, brain, number % 10, np.random.default_rng(number))
        (target / folder.name).mkdir(parents=True)
        for name, image in images.items():
            shown = np.where(brain, np.maximum(image, 1), 0)
            whole = np.round(shown * (10000 / max(shown.max(), 1))).astype(np.int16)
            file = nib.Nifti1Image(whole, files[name].affine, None)
            nib.save(file, target / folder.name / f"{folder.name}-{name}.nii.gz")
        shutil.copy(folder / f"{folder.name}-seg.nii.gz", target / folder.name)


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    phantoms, work = Path(sys.argv[1]), Path(sys.argv[2])
    if not (work / "hard").exists():
        make_hard(phantoms, work / "hard")
    report = RunReport(work / "report", {})
    results = segment_folder(work / "hard", work / "output", device="cpu", events=report.beside(Events()))
    report.write(work / "hard", work / "output", "auto", results)
    flagged = {
        case["id"]: "unsure" in case["flags"] or "empty" in case["flags"]
        for case in json.loads((work / "report" / "report.json").read_text())["cases"]
    }
    scores = evaluate_folders(work / "output", work / "hard", task_named("gli"), jobs=1).cases
    dice = {
        case_id: np.mean([region["legacy_dice"] for region in regions.values()]) for case_id, regions in scores.items()
    }
    for what, ids in (("below", [i for i in dice if dice[i] < BAD]), ("others", [i for i in dice if dice[i] >= BAD])):
        print(f"{what} {BAD}: {sum(flagged[i] for i in ids)} of {len(ids)} flagged")


if __name__ == "__main__":
    main()
