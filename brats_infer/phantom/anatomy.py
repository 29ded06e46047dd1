"""Anatomies: label maps of heads -> `Tissue` maps of the brain, on canonical axes at 1 mm."""

import math
from collections.abc import Callable
from enum import IntEnum
from importlib.util import find_spec
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
import torch
from nibabel import orientations as nio
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_infer.errors import UsageError
from brats_infer.files.unpack import READ_ERRORS
from brats_infer.image.crop import CANONICAL_AXES, SPACING_TOLERANCE

MARGIN = 4  # voxels left around a brain
MENINGES = 5  # voxels; skull stripping removes fluid further than this from tissue
MNI152 = "mni152"
MNI152_FILES = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
VENTRICLE_DEPTH = 28  # mm; fluid deeper than this below the brain's surface counts as ventricle

OfCodes = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""(X, Y, Z) codes of a label map -> (X, Y, Z) tissues."""


class Tissue(IntEnum):
    """The tissue of a voxel in a brain without a tumor; 0 is outside of the brain."""

    OUTSIDE = 0
    CSF = 1
    """Cisterns and sulci."""
    VENTRICLE = 2
    CORTEX = 3
    WHITE = 4
    DEEP_GREY = 5
    PALLIDUM = 6
    CEREBELLAR_CORTEX = 7
    CEREBELLAR_WHITE = 8
    BRAINSTEM = 9


FREESURFER = {
    Tissue.CSF: (24, 30, 62, 85, 0),
    Tissue.VENTRICLE: (4, 5, 14, 15, 43, 44, 31, 63, 72),
    Tissue.CORTEX: (3, 42, 17, 18, 53, 54, 25, 57, 136, 137, 163, 164, *range(1000, 1036), *range(2000, 2036)),
    Tissue.WHITE: (2, 41, 77, 78, 79, 251, 252, 253, 254, 255, *range(3000, 3036), *range(4000, 4036), 5001, 5002),
    Tissue.DEEP_GREY: (10, 11, 12, 26, 49, 50, 51, 58),
    Tissue.PALLIDUM: (13, 52, 28, 60),
    Tissue.CEREBELLAR_CORTEX: (8, 47),
    Tissue.CEREBELLAR_WHITE: (7, 46),
    Tissue.BRAINSTEM: (16,),
}
"""The codes of FreeSurfer, with aparc+aseg and wmparc. SynthSeg's codes from 500 to 999 lie outside of the brain."""
SIMPLE = {Tissue.CSF: (1,), Tissue.CORTEX: (2,), Tissue.WHITE: (3,)}
"""The codes of tissue maps such as the SRI24 atlas: 1 CSF, 2 grey, 3 white matter."""


def load_anatomies(folder: Path, of_codes: OfCodes | None = None) -> list[Tensor]:
    """(X, Y, Z) uint8 maps, as `of_codes` makes them, of every `*.nii.gz` label map in a folder. Raises UsageError.

    By default they are `Tissue` maps cropped to the brain.
    """
    paths = sorted(folder.glob("*.nii.gz"))
    anatomies = [anatomy for path in paths if (anatomy := read_anatomy(path, of_codes)) is not None]
    if not anatomies:
        raise UsageError(f"{folder}: holds no label map (*.nii.gz) of a brain: choose another --anatomy")
    return anatomies


def anatomies_named(name: str) -> list[Tensor]:
    """(X, Y, Z) uint8 `Tissue` maps: `mni152`, or those of a folder. Raises UsageError."""
    return [mni152_anatomy()] if name == MNI152 else load_anatomies(Path(name))


def read_anatomy(path: Path, of_codes: OfCodes | None = None) -> Tensor | None:
    """Reads one label map; None if the file is no label map of a brain. Raises UsageError if it cannot be read."""
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj)
    except (*READ_ERRORS, ImageFileError, HeaderDataError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}): remove it or choose another --anatomy") from error
    if data.ndim < 3 or data.size != math.prod(data.shape[:3]) or data.dtype.kind not in "iuf":
        return None
    data = data.reshape(data.shape[:3])
    if not np.array_equal(data, np.round(data)) or len(np.unique(data)) > 200:
        return None
    affine = image.affine
    size = voxel_sizes(affine)
    if np.abs(size - 1).max() > SPACING_TOLERANCE:
        found = "x".join(f"{mm:.3g}" for mm in size)
        raise UsageError(f"{path}: its voxels are of {found} mm: resample it to 1 mm, or choose another --anatomy")
    turn = nio.ornt_transform(nio.io_orientation(affine), nio.axcodes2ornt(CANONICAL_AXES))
    tissues = (of_codes or tissues_of)(np.asarray(nio.apply_orientation(data, turn)).astype(np.int64))
    return torch.from_numpy(tissues) if (tissues > Tissue.CSF).any() else None


def tissues_of(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(X, Y, Z) codes -> `Tissue` map, cropped to the brain with a margin."""
    return _near_brain(boxed(_tissues(codes)))


def brain_in(codes: NDArray[np.int64]) -> tuple[NDArray[np.uint8], tuple[slice, ...]] | None:
    """As `tissues_of`, and its place in the codes, which may reach beyond them; None without a brain."""
    tissues = _tissues(codes)
    solid = ndimage.find_objects((tissues > Tissue.CSF).astype(np.uint8))
    reach = MENINGES + MARGIN
    place = tuple(slice(side.start - reach, side.stop + reach) for side in solid[0]) if solid else ()
    return (_near_brain(boxed(tissues)), place) if place else None


def _tissues(codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(X, Y, Z) codes -> `Tissue` map on the same grid; a map with codes above 3 is of `FREESURFER`, else `SIMPLE`."""
    table = SIMPLE if codes.max() <= 3 else FREESURFER
    lookup = np.zeros(max(1, int(codes.max()) + 1), np.uint8)
    for tissue, members in table.items():
        for code in members:
            if 0 < code < len(lookup):
                lookup[code] = tissue
    return np.asarray(lookup[np.maximum(codes, 0)])


def boxed(tissues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(X, Y, Z) `Tissue` map -> its brain's bounding box with a margin; a single voxel where there is no brain."""
    solid = tissues > Tissue.CSF
    if not solid.any():
        return np.zeros((1, 1, 1), np.uint8)
    box = ndimage.find_objects(solid.astype(np.uint8))[0]
    reach = MENINGES + MARGIN
    padded = np.pad(tissues, reach)
    return padded[tuple(slice(side.start, side.stop + 2 * reach) for side in box)]


def _near_brain(tissues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(X, Y, Z): its largest component, without the fluid far from tissue (spinal canal, orbits)."""
    if not tissues.any():
        return tissues
    solid = tissues > Tissue.CSF
    kept = solid | ((tissues == Tissue.CSF) & (ndimage.distance_transform_edt(~solid) <= MENINGES))
    largest = cc3d.largest_k(kept, k=1, connectivity=6)
    return np.where(largest > 0, tissues, 0).astype(np.uint8)


def mni152_anatomy() -> Tensor:
    """(X, Y, Z) uint8 `Tissue` map of nilearn's MNI152 (Fonov et al. 2011), at 1 mm. Raises UsageError.

    It has four classes: fluid, ventricles, grey and white matter.
    """
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        raise UsageError("--anatomy mni152: needs nilearn: pip install nilearn, or give a folder")
    folder = Path(package.origin).parent / "datasets" / "data"  # found without importing nilearn, which takes seconds
    grey, white, head = (_read_share(folder / MNI152_FILES.format(name)) for name in ("gm", "wm", "t1"))
    brain = ndimage.binary_fill_holes(head > 0)
    tissues = np.where(white > 0.5, Tissue.WHITE, np.where(grey > 0.4, Tissue.CORTEX, Tissue.CSF))
    deep = ndimage.distance_transform_edt(brain) > VENTRICLE_DEPTH
    tissues[(tissues == Tissue.CSF) & deep] = Tissue.VENTRICLE
    return torch.from_numpy(boxed(np.where(brain, tissues, 0).astype(np.uint8)))


def _read_share(path: Path) -> NDArray[np.float32]:
    """(X, Y, Z) float32 in 0..1, on canonical axes."""
    image = nib.load(path)
    turn = nio.ornt_transform(nio.io_orientation(image.affine), nio.axcodes2ornt(CANONICAL_AXES))
    data = nio.apply_orientation(np.asarray(image.dataobj), turn)
    return np.asarray(data / data.max(), np.float32)
