"""Finds one image under two names: the same voxels, or the same ones mirrored."""

from collections.abc import Mapping
from itertools import combinations, product

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.nifti import Volume


def refuse_copies(study: str, volumes: Mapping[str, tuple[str, Volume]]) -> None:
    """Raises CaseError if two of {contrast: (source, volume)} hold one image, in any axis order, also mirrored."""
    turned = {contrast: _canonical(volume) for contrast, (_, volume) in volumes.items()}
    for one, other in combinations(turned, 2):
        how = _likeness(turned[one], turned[other])
        if how is None:
            continue
        names = f"{one} ({volumes[one][0]}) and {other} ({volumes[other][0]})"
        raise CaseError(f"{study}: {names} hold {how}: give each contrast its own")


def _canonical(volume: Volume) -> NDArray[np.generic]:
    """The voxels with their axes to the right, to the front, up."""
    return np.asarray(nib.orientations.apply_orientation(volume.data, nib.io_orientation(volume.geometry.affine)))


def _likeness(one: NDArray[np.generic], other: NDArray[np.generic]) -> str | None:
    if one.shape != other.shape or one.min() != other.min() or one.max() != other.max():
        return None
    if not np.isclose(one.sum(dtype=np.float64), other.sum(dtype=np.float64)):
        return None
    if np.array_equal(one, other):
        return "the same image"
    flips = [tuple(axis for axis in range(3) if flip[axis]) for flip in product((False, True), repeat=3)]
    mirrored = any(np.array_equal(one, np.flip(other, axes)) for axes in flips if axes)
    return "the same image, one of them mirrored" if mirrored else None
