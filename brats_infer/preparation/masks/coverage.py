"""How much of the brain each scan of a case shows."""

from collections.abc import Mapping

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.image.voxels import bounding_box
from brats_infer.preparation.masks.brain import largest, mean_vote
from brats_infer.preparation.registration.grids import Grid
from brats_infer.preparation.registration.scan import zyx

MIN_COVERAGE = 0.80
"""A scan that shows less of the brain is cut: it is refused."""
WHOLE_COVERAGE = 0.95
"""A scan that shows less is named in a warning."""
STEP, SIDE = 3.0, 300.0  # mm; a cube that holds a head
INNER = 9.0  # mm; heads differ from the template by less


def coverages(
    images: Mapping[str, sitk.Image],
    brains: Mapping[str, sitk.Image],
    transforms: Mapping[str, sitk.AffineTransform],
    centre: tuple[float, float, float],
    template: sitk.Image | None,
) -> dict[str, float]:
    """{contrast: the share of the brain in its field of view, from 0 to 1}.

    `brains` are probabilities, `transforms` take a point of the case to a point of the scan, `centre` is the brain's
    middle in the case, mm. The field of view is the box around the voxels that are not 0. The brain is the vote of the
    scans that see a place. The inner part of the `template`, on a grid of the case, is brain where no scan sees.
    """
    count = round(SIDE / STEP)
    x, y, z = (c - (count - 1) / 2 * STEP for c in centre)
    grid = Grid((count, count, count), (x, y, z), (STEP,) * 3)
    points = np.stack(np.meshgrid(*(start + np.arange(count) * STEP for start in grid.origin), indexing="ij"), -1)
    fields = {contrast: _field(points, image, transforms[contrast]).T for contrast, image in images.items()}
    votes = {c: zyx(grid.resample(brains[c], transforms[c], outside=float("nan"))) for c in images}
    whole = mean_vote(np.stack([np.where(fields[c], votes[c], np.nan) for c in images])) > 0.5
    if template is not None:
        inner = zyx(grid.resample(template, sitk.Transform())) > 0
        inner = ndimage.binary_erosion(inner, iterations=round(INNER / STEP))
        whole |= inner & ~np.any(list(fields.values()), axis=0)
    whole = largest(whole)
    return {contrast: float(field[whole].mean()) for contrast, field in fields.items()}


def _field(points: NDArray[np.float64], image: sitk.Image, transform: sitk.AffineTransform) -> NDArray[np.bool_]:
    """(X, Y, Z): whether points (X, Y, Z, 3) of the case lie in the scan's field of view."""
    turn = np.array(transform.GetMatrix()).reshape(3, 3)
    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    shift = np.array(transform.GetTranslation()) - image.GetOrigin()
    indices = (points @ turn.T + shift) @ np.linalg.inv(axes).T
    box = bounding_box(sitk.GetArrayViewFromImage(image) != 0)[::-1]
    low, high = ([side.start - 0.5 for side in box], [side.stop - 0.5 for side in box])
    return np.asarray(np.all((indices >= low) & (indices < high), axis=-1))
