"""Draws docs/phantoms.png: synthetic cases beside three real ones, t1c over t2f, in the slice with most tumor.

    python benchmarks/phantoms_picture.py --phantoms GLI --phantoms SSA --phantoms MEN --real DIR --id A --id B --id C

The folders hold cases with label maps. Of those of phantoms the first three are drawn; the last three are real.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from brats_infer.files.cases import Case
from brats_infer.files.labels import read_labels
from brats_infer.files.nifti import read_images
from brats_infer.image.crop import crop_labels, crop_to_brain
from brats_infer.tasks import MODALITIES
from brats_infer.train.data.dataset import labelled_cases

OUT = Path(__file__).parents[1] / "docs" / "phantoms.png"
T1C, T2F = ([modality.name for modality in MODALITIES].index(name) for name in ("t1c", "t2f"))


def picture_of(case: Case, reference: Path) -> NDArray[np.float32]:
    """(rows, columns) 0..1: t1c over t2f, the front up."""
    cropped = crop_to_brain(read_images(case.paths.values()))
    labels = crop_labels(read_labels(reference)[0], cropped.restore)
    z = int((labels > 0).sum(axis=(0, 1)).argmax())
    shown = []
    for image in (cropped.images[T1C], cropped.images[T2F]):
        top = np.percentile(image[image != 0], 99.5)
        flat = np.clip(image[:, :, z] / top, 0, 1).T[::-1]
        rows, columns = flat.shape
        shown.append(np.pad(flat, ((0, 240 - rows), ((200 - columns) // 2, 200 - columns - (200 - columns) // 2))))
    return np.concatenate(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=Path, action="append", required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--id", action="append", required=True)
    given = parser.parse_args()
    groups = [labelled_cases(folder, "gli")[:3] for folder in given.phantoms]
    groups.append([pair for pair in labelled_cases(given.real, "gli") if pair[0].id in given.id])
    figure = Figure(figsize=(12, 10), facecolor="black", layout="constrained")
    axes = figure.subplots(2, -(-sum(map(len, groups)) // 2)).flat
    for axis, pair in zip(axes, (pair for group in groups for pair in group), strict=False):
        axis.imshow(picture_of(*pair), cmap="gray", vmin=0, vmax=1)
        axis.set_title(pair[0].id.removeprefix("BraTS-").removesuffix("-000"), color="white", fontsize=8)
        axis.axis("off")
    figure.savefig(OUT, dpi=70)


if __name__ == "__main__":
    main()
