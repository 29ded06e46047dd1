"""One image of a study as it was scanned."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.errors import CaseError

MIN_SLICES = 10
MIN_SIDE = 80.0  # mm; a head is larger along each axis
MAX_VOXELS = 2**28


def read_scan(path: Path) -> sitk.Image:
    """A 3-D NIfTI as float32, on its own grid. Raises CaseError, naming the file."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise CaseError(f"{path}: cannot be read as NIfTI: convert it again") from error
    size = image.GetSize()
    if image.GetDimension() == 4 and size[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise CaseError(f"{path}: holds {image.GetDimension()}-D data: give one 3-D volume")
    if np.prod(image.GetSize()) > MAX_VOXELS:
        raise CaseError(f"{path}: has {'x'.join(map(str, image.GetSize()))} voxels, more than a head needs: crop it")
    if min(image.GetSize()) < MIN_SLICES:
        raise CaseError(f"{path}: has {min(image.GetSize())} slices: take the whole series")
    sides = [n * mm for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    if min(sides) < MIN_SIDE:
        raise CaseError(f"{path}: spans {min(sides):.0f} mm, less than a head: take another series or mend its header")
    image = sitk.Cast(image, sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(image)
    if not np.isfinite(values).all():
        raise CaseError(f"{path}: holds NaN or Inf: convert it again")
    if values.min() == values.max():
        raise CaseError(f"{path}: has one value in all voxels: take another series")
    return image


def zyx(image: sitk.Image) -> NDArray[np.float32]:
    """The voxels (Z, Y, X), ITK's order, as float32."""
    return np.asarray(sitk.GetArrayFromImage(image), np.float32)
