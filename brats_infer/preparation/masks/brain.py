"""Skull stripping: the brain's probability in one image of any contrast."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cc3d
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from brats_infer.errors import CaseError, WeightsError
from brats_infer.image.voxels import bounding_box
from brats_infer.network.devices import autocast
from brats_infer.network.loading import SHIPPED_WEIGHTS
from brats_infer.preparation.masks.scaling import SPACING, scaled
from brats_infer.preparation.registration.grids import grid_around
from brats_infer.tasks import BRAIN
from model.checkpoint import CheckpointError, load_member, read_manifest
from model.unet import UNet

STRIPPED_SHARE = 0.4  # an image with more voxels of exactly 0 than this, all around, has been stripped before
MIN_LITRES, MAX_LITRES = 0.5, 2.5
INSIDE = 0.3
"""The network's output that counts as one half. With 0.5 itself the mask cuts more of the tumors at the surface."""
MAX_LENGTH = 1.6  # of the next longest axis; a brain has 1.2 to 1.4
MARGIN = 16.0  # mm around the brain that the first pass found


@dataclass(frozen=True)
class BrainMember:
    """The network of skull stripping."""

    folder: Path = SHIPPED_WEIGHTS

    @cached_property
    def network(self) -> UNet:
        """Loaded on first use: stripped images need none. Raises WeightsError."""
        try:
            members = [member for member in read_manifest(self.folder) if member.task == BRAIN]
            if not members:
                raise WeightsError(f"{self.folder}: holds no member of task {BRAIN}: take the shipped weights")
            return load_member(self.folder, members[0]).eval()
        except CheckpointError as error:
            raise WeightsError(str(error)) from error

    @torch.inference_mode()
    def probability(self, image: sitk.Image) -> sitk.Image:
        """The probability of brain, float32, on a grid of 2 mm along the image's own axes.

        The network looks twice: at the whole image, then at the neighbourhood of the brain.
        """
        grid = grid_around(image, SPACING)
        coarse = grid.resample(_smoothed(image), sitk.Transform())
        values = sitk.GetArrayFromImage(coarse)
        found = self._pass(values)
        mask = largest(found > 0.5)
        if mask.any():
            box = bounding_box(mask, round(MARGIN / SPACING))
            closer = np.zeros_like(found)
            closer[box] = self._pass(values[box])
            found = closer
        out = sitk.GetImageFromArray(found)
        out.CopyInformation(coarse)
        return out

    def _pass(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Z, Y, X) intensities at 2 mm -> probabilities."""
        x = torch.from_numpy(np.ascontiguousarray(scaled(values).T))[None, None]
        multiple = self.network.config.multiple
        missing = [-n % multiple for n in x.shape[2:]]
        padding = [side for n in reversed(missing) for side in (n // 2, n - n // 2)]
        padded = functional.pad(x, padding).to(memory_format=torch.channels_last_3d)
        with autocast(torch.device("cpu")):
            logits = self.network(padded).float() - math.log(INSIDE / (1 - INSIDE))
        sides = [slice(n // 2, n // 2 + side) for n, side in zip(missing, x.shape[2:], strict=True)]
        return np.ascontiguousarray(torch.sigmoid(logits)[0, 0][tuple(sides)].numpy().T)


def is_stripped(image: sitk.Image) -> bool:
    """Whether an image was skull-stripped before: it is 0 in most voxels, and on nearly all of its border."""
    values = sitk.GetArrayViewFromImage(image)
    faces = np.concatenate(
        [side.ravel() for axis in range(3) for side in (values.take(0, axis), values.take(-1, axis))]
    )
    if np.mean(faces != 0) > 0.02 or np.mean(values == 0) < STRIPPED_SHARE:
        return False
    inside = largest(values != 0)
    filled = ndimage.binary_fill_holes(inside)
    litres = float(np.count_nonzero(filled)) * float(np.prod(image.GetSpacing())) / 1e6
    return bool(np.count_nonzero(inside) > 0.97 * np.count_nonzero(filled)) and litres < MAX_LITRES


def mask_of_stripped(image: sitk.Image) -> sitk.Image:
    """The brain of a stripped image, float32, 0 or 1, on its own grid."""
    values = sitk.GetArrayViewFromImage(image)
    out = sitk.GetImageFromArray(ndimage.binary_fill_holes(largest(values != 0)).astype(np.float32))
    out.CopyInformation(image)
    return out


def brain_of(votes: NDArray[np.float32], case: str) -> NDArray[np.bool_]:
    """(N, Z, Y, X) probabilities of the contrasts, NaN outside of their fields of view -> the mask at 1 mm.

    It is the largest component of a mean above 0.5, without holes. Raises CaseError for a volume or a length that is no
    brain's.
    """
    mask = np.asarray(ndimage.binary_fill_holes(largest(mean_vote(votes) > 0.5)), bool)
    litres = np.count_nonzero(mask) / 1e6
    if not MIN_LITRES <= litres <= MAX_LITRES:
        raise CaseError(f"{case}: {litres:.2f} litres look like brain: give images of a head, or a mask by --brain")
    longest, next_one = _axes(mask)
    if longest > MAX_LENGTH * next_one:
        raise CaseError(
            f"{case}: the mask is {longest:.0f} mm long and {next_one:.0f} mm wide, which is no brain: give images of "
            f"a head, or a mask by --brain"
        )
    return mask


def mean_vote(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, Z, Y, X) probabilities, NaN where a contrast sees nothing -> their mean; 0 where none sees."""
    seen = np.isfinite(votes)
    mean = np.where(seen, votes, 0).sum(0) / np.maximum(seen.sum(0), 1)
    return np.asarray(mean, np.float32)


def _axes(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The two longest axes of the ellipsoid with the mask's moments, in voxels."""
    variances = np.linalg.eigvalsh(np.cov(np.argwhere(mask)[::10].T))
    longest, next_one = 2 * np.sqrt(5 * variances[:0:-1])
    return float(longest), float(next_one)


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest component, connected by faces."""
    return np.asarray(cc3d.largest_k(mask, k=1, connectivity=6) > 0)


def _smoothed(image: sitk.Image) -> sitk.Image:
    """Blurred along axes of voxels finer than the network's, against aliasing."""
    sigmas = [max(0.0, (SPACING - mm) / 2.355) for mm in image.GetSpacing()]
    for axis, sigma in enumerate(sigmas):
        if sigma > 0.1:
            image = sitk.RecursiveGaussian(image, sigma, direction=axis)
    return image
