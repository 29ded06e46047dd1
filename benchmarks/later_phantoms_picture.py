"""Draws docs/phantoms-later.jpg: a phantom of each later challenge, in the slice with most of the tumor's core.

    python benchmarks/later_phantoms_picture.py --anatomy LABEL_MAPS

Rows: t1n, t1c, t2w, t2f and labels; of men-rt t1c in two planes and labels.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brats_infer.phantom.make import Phantom, make_phantom
from brats_infer.phantom.task_recipes import recipe_of
from brats_infer.tasks import TASKS, meaning_of

OUT = Path(__file__).parents[1] / "docs" / "phantoms-later.jpg"
SEEDS = {"gli-post": 2, "met": 7, "ped": 5, "goat": 1, "men-rt": 1}
COLOURS = np.array([(0, 0, 0), (255, 80, 80), (80, 200, 80), (80, 120, 255), (255, 220, 60)], np.uint8)
TILE = (240, 240)  # rows, columns


def row_of(phantom: Phantom, task: str) -> NDArray[np.uint8]:
    """(rows, columns, 3): the images of one phantom and its labels beside each other."""
    images, labels = phantom.images.numpy(), phantom.labels.numpy()
    core = next(region.labels for region in TASKS[task].regions if meaning_of(region) == "TC")
    inside = np.isin(labels, core)
    x, z = (int(inside.sum(axis=axes).argmax()) for axes in ((1, 2), (0, 1)))
    planes = [image[:, :, z].T for image in images]
    if len(planes) == 1:
        planes.append(images[0, x].T[::-1])
    tops = [np.percentile(image[image > 0], 99.5) for image in images] * len(planes)
    tiles = [grey(plane / top) for plane, top in zip(planes, tops, strict=False)]
    shown = labels[:, :, z].T
    painted = np.where(shown[..., None] > 0, COLOURS[shown], tiles[0] // 2)
    return np.concatenate([framed(tile) for tile in (*tiles, painted)], axis=1)


def grey(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(rows, columns) from 0 to 1 -> (rows, columns, 3)."""
    return np.repeat((np.clip(plane, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def framed(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The tile in the middle of a black one of size `TILE`."""
    out = np.zeros((*TILE, 3), np.uint8)
    (top, left), (rows, columns) = ((max(0, (a - b) // 2) for a, b in zip(TILE, tile.shape, strict=False)), TILE)
    cut = tile[max(0, (tile.shape[0] - rows) // 2) :, max(0, (tile.shape[1] - columns) // 2) :][:rows, :columns]
    out[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anatomy", required=True)
    given = parser.parse_args()
    rows = []
    for task, seed in SEEDS.items():
        rows.append(row_of(make_phantom(recipe_of(task).anatomies(given.anatomy), task, seed), task))
    wide = max(row.shape[1] for row in rows)
    picture = np.concatenate([np.pad(row, ((0, 0), (0, wide - row.shape[1]), (0, 0))) for row in rows])
    Image.fromarray(picture).save(OUT, quality=80)


if __name__ == "__main__":
    main()
