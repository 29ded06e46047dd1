"""A picture of a prepared case, to check registration and skull stripping at a glance."""

import io
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from brats_infer.preparation.case_of_study import Prepared
from brats_infer.preparation.registration.scan import zyx

BRAIN, ATLAS = (255, 90, 60), (70, 190, 255)
WINDOW = (1.0, 99.5)  # percentiles of the brain's voxels, shown as black and white
TILE = 24  # voxels of a field of the checkerboard
PANEL = 230  # pixels
GAP, HEADER = 4, 44


def draw_prepared(prepared: Prepared, title: str) -> bytes:
    """A PNG: each contrast with the outlines of brain and atlas, then checkerboards against the reference.

    Three planes through the brain's middle, seen as radiologists do.
    """
    brain = zyx(prepared.brain).T > 0
    atlas = zyx(prepared.template).T > 0 if prepared.template is not None else np.zeros_like(brain)
    greys = {contrast: _grey(zyx(head).T, brain) for contrast, head in prepared.heads.items()}
    reference = greys[prepared.reference]
    columns = [(contrast, image, True) for contrast, image in greys.items()]
    columns += [
        (f"{prepared.reference} | {contrast}", _checkerboard(reference, image), False)
        for contrast, image in greys.items()
        if contrast != prepared.reference
    ]
    middle = [int(v) for v in ndimage.center_of_mass(brain)]
    height = HEADER + 3 * (PANEL + GAP)
    canvas = Image.new("RGB", (len(columns) * (PANEL + GAP) + GAP, height), "black")
    draw = ImageDraw.Draw(canvas)
    font = cast(ImageFont.FreeTypeFont, ImageFont.load_default(14))
    draw.text((8, 4), f"{title}: brain mask", BRAIN, font)
    draw.text((8 + draw.textlength(f"{title}: brain mask   ", font), 4), "atlas", ATLAS, font)
    for column, (name, image, outlined) in enumerate(columns):
        left = GAP + column * (PANEL + GAP)
        draw.text((left + PANEL / 2, 24), name, "white", font, anchor="ma")
        for axis in range(3):
            plane = _plane(image, axis, middle)
            outlines = [_plane(mask, axis, middle) for mask in (atlas, brain)] if outlined else []
            canvas.paste(_panel(plane, outlines), (left, HEADER + axis * (PANEL + GAP)))
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=False, compress_level=6)
    return stream.getvalue()


def _grey(image: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.uint8]:
    low, high = np.percentile(image[brain], WINDOW)
    scaled: NDArray[np.uint8] = (np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    return scaled


def _checkerboard(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fields of one image and the other in turns."""
    x, y, z = np.ogrid[tuple(slice(n) for n in one.shape)]
    return np.where((x // TILE + y // TILE + z // TILE) % 2 == 0, one, other).astype(np.uint8)


def _plane(array: NDArray[np.uint8] | NDArray[np.bool_], axis: int, middle: Sequence[int]) -> NDArray[np.uint8]:
    """Axial, coronal or sagittal, as (rows downwards, columns); the array's axes are left, back, up."""
    x, y, z = middle
    values = array.astype(np.uint8)
    return (values[:, :, z].T, values[:, y, ::-1].T, values[x, :, ::-1].T)[axis]


def _panel(plane: NDArray[np.uint8], outlines: Sequence[NDArray[np.uint8]]) -> Image.Image:
    """A square panel; the first outline is of the atlas, the second of the brain."""
    rgb = np.repeat(plane[:, :, None], 3, axis=2)
    for mask, colour in zip(outlines, (ATLAS, BRAIN), strict=False):
        rgb[(mask > 0) & ~ndimage.binary_erosion(mask > 0)] = colour
    scale = PANEL / max(plane.shape)
    size = (round(plane.shape[1] * scale), round(plane.shape[0] * scale))
    square = Image.new("RGB", (PANEL, PANEL), "black")
    square.paste(Image.fromarray(rgb).resize(size), ((PANEL - size[0]) // 2, (PANEL - size[1]) // 2))
    return square
