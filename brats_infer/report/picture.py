"""A picture of a case: four contrasts, three planes through its largest lesion, the outlines of its labels."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from brats_infer.image.voxels import bounding_box, components_of
from brats_infer.tasks import Task
from model.atomic import write_atomically

PLANES = ("axial", "coronal", "sagittal")
COLOURS = {1: "#e4572e", 2: "#ffc914", 3: "#3ddbd9", 4: "#b18cff"}
"""{label: colour}. They differ for colour-blind people too."""
WINDOW = (1.0, 99.0)  # percentiles of the brain's voxels, shown as black and white
WIDTH = 1200
TALLEST = 1200  # pixels of a plane; planes of a brain have 300 to 400
MARGIN = 6  # voxels around the brain
HEADER = 54
GAP = 4
DARKEST = 16  # grey of the brain; JPEG's ripples around it stay below
GREYS = 4  # step between greys; 64 greys are enough for the eye, and halve the file
EVERY = 7  # percentiles use every seventh voxel


def grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(X, Y, Z), background 0 -> 0 for background, `DARKEST` to 255 for the brain, scaled by `WINDOW`."""
    inside = image != 0
    voxels = image[inside]
    if not len(voxels):
        return np.zeros(image.shape, np.uint8)
    some = voxels[::EVERY] if len(voxels) > 1000 else voxels
    low, high = np.percentile(some.astype(np.float64), WINDOW)  # in float32 their difference may overflow
    scale = (255 - DARKEST) / (high - low) if high > low else 0.0
    shown = np.clip((image.astype(np.float64) - low) * scale + DARKEST, DARKEST, 255).astype(np.uint8)
    return np.where(inside, shown, np.uint8(0))


def draw_picture(
    greys: Sequence[NDArray[np.uint8]],
    labels: NDArray[np.uint8],
    task: Task,
    title: str,
    volumes: dict[str, float],
    path: Path,
) -> None:
    """Writes a PNG of a task's images (of `grey`) and labels, all (X, Y, Z), axes to the left, to the back, up.

    The view is radiological: the patient's left is on the right. `volumes` {name: ml} stand in the title. The file is
    written atomically. Raises OSError.
    """
    box = bounding_box(np.any([image > 0 for image in greys], axis=0), MARGIN)
    greys, labels = [image[box] for image in greys], labels[box]
    centre = middle_of(labels if labels.any() else greys[0])
    rows = [[_plane(image, plane, centre) for image in greys] for plane in PLANES]
    cell = max(row[0].shape[1] for row in rows)
    scale = min((WIDTH - GAP * (len(greys) + 1)) / (len(greys) * cell), TALLEST / max(len(row[0]) for row in rows))
    panels = [
        [_panel(picture, _plane(labels, plane, centre), scale) for picture in row]
        for plane, row in zip(PLANES, rows, strict=True)
    ]
    heights = [row[0].height for row in panels]
    canvas = Image.new("RGB", (WIDTH, HEADER + sum(heights) + GAP * len(rows)))
    step = (WIDTH - GAP) / len(greys)
    _write_header(ImageDraw.Draw(canvas), task, title, volumes, step)
    for number, row in enumerate(panels):
        for column, panel in enumerate(row):
            left = int(GAP + column * step + (step - GAP - panel.width) / 2)
            canvas.paste(panel, (left, HEADER + sum(heights[:number]) + GAP * number))
    stream = io.BytesIO()
    canvas.save(stream, "PNG", compress_level=2)
    write_atomically(path, stream.getvalue())


def middle_of(mask: NDArray[np.uint8]) -> tuple[int, int, int]:
    """For each axis, the slice that shows most of the largest 26-connected component of voxels above 0.

    The middle of an empty mask.
    """
    if not mask.any():
        x, y, z = (n // 2 for n in mask.shape)
        return x, y, z
    box = bounding_box(mask > 0)
    components = components_of(mask[box] > 0, 26)
    largest = components == 1 + np.bincount(components.ravel())[1:].argmax()
    sums = [largest.sum(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    x, y, z = (int(s.argmax()) + side.start for s, side in zip(sums, box, strict=True))
    return x, y, z


def _plane(array: NDArray[np.uint8], plane: str, centre: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A plane as (rows downwards, columns). Axial: the front is up; else the head is up."""
    x, y, z = centre
    match plane:
        case "axial":
            return array[:, :, z].T
        case "coronal":
            return array[:, y, ::-1].T
        case _:
            return array[x, :, ::-1].T


def _panel(picture: NDArray[np.uint8], labels: NDArray[np.uint8], scale: float) -> Image.Image:
    """An enlarged plane with the outlines of the labels."""
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    base = Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.BICUBIC)
    panel = base.point([value // GREYS * GREYS for value in range(256)]).convert("RGB")
    for label, colour in COLOURS.items():
        mask = labels == label
        if mask.any():
            panel.paste(colour, (0, 0), _outline(mask, size))
    return panel


def _outline(mask: NDArray[np.bool_], size: tuple[int, int]) -> Image.Image:
    """The share of each pixel that the mask's smoothed outline covers, drawn at twice the size against aliasing."""
    padded = Image.fromarray(mask.astype(np.uint8) * 255)
    large = np.asarray(padded.resize((size[0] * 2, size[1] * 2), Image.Resampling.BICUBIC)) > 127
    inner = large.copy()
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        for n in (1, 2):
            inner &= np.roll(large, step * n, axis)
    return Image.fromarray((large & ~inner).astype(np.uint8) * 255).reduce(2)


def _write_header(draw: ImageDraw.ImageDraw, task: Task, title: str, volumes: dict[str, float], step: float) -> None:
    font, small = (cast(ImageFont.FreeTypeFont, ImageFont.load_default(size)) for size in (17, 13))
    draw.text((GAP + 6, 6), title, "white", font)
    at = WIDTH - 12.0
    colours = {task.name_of(label): COLOURS[label] for label in task.labels}
    for name, ml in reversed(volumes.items()):
        text = f"{name} {ml:.1f} ml"
        at -= draw.textlength(text, font)
        draw.text((at, 6), text, colours.get(name, "white"), font)
        at -= 22
    for column, modality in enumerate(task.modalities):
        draw.text((GAP + (column + 0.5) * step - GAP / 2, HEADER - 22), modality.title, "#b0b0b0", small, anchor="ma")
