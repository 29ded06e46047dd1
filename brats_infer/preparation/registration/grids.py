"""Output grids of `prepare`, and the template that heads are registered to.

Points are in mm on ITK's axes: left, posterior, superior (LPS).
"""

import math
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer.settings import Atlas

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
TEMPLATE = "mni152_t1_2mm.nii.gz"
MNI_FROM_SRI24 = (
    (1.0978, 0.0043, 0.0079, -130.83),
    (-0.0024, 1.0702, -0.2446, 150.46),
    (-0.0086, 0.2446, 1.0702, -44.49),
)
"""A point of SRI24 -> a point of MNI152: the similarity of largest mutual information between both T1 templates."""


@dataclass(frozen=True)
class Grid:
    """Voxels in space."""

    size: tuple[int, int, int]
    origin: tuple[float, float, float]
    """The centre of the first voxel, mm, LPS."""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """mm."""
    direction: tuple[float, ...] = IDENTITY

    @classmethod
    def of(cls, image: sitk.Image) -> "Grid":
        """The grid of an image."""
        x, y, z = image.GetSize()
        return cls((x, y, z), image.GetOrigin(), image.GetSpacing(), image.GetDirection())

    def resample(
        self, image: sitk.Image, transform: sitk.Transform, method: int = sitk.sitkLinear, outside: float = 0.0
    ) -> sitk.Image:
        """The image on this grid; `transform` takes a point of the grid to a point of the image."""
        kind = image.GetPixelID()
        return sitk.Resample(
            image, self.size, transform, method, self.origin, self.spacing, self.direction, outside, kind
        )

    def empty(self) -> sitk.Image:
        """A float32 image of zeros on this grid."""
        image = sitk.Image(list(self.size), sitk.sitkFloat32)
        image.SetOrigin(self.origin)
        image.SetSpacing(self.spacing)
        image.SetDirection(self.direction)
        return image


ATLAS_GRIDS = {
    Atlas.SRI24: Grid((240, 240, 155), (0.0, -239.0, 0.0)),
    Atlas.MNI: Grid((182, 218, 182), (-90.0, -91.0, -72.0)),
}


def grid_around(image: sitk.Image, spacing: float) -> Grid:
    """A grid on the image's axes, turned to the nearest order and sense of LPS, that covers it, of cubic voxels."""
    oriented = sitk.DICOMOrient(image, "LPS")
    sides = [n * mm for n, mm in zip(oriented.GetSize(), oriented.GetSpacing(), strict=True)]
    x, y, z = (max(1, math.ceil(side / spacing - 1e-6)) for side in sides)
    direction = np.array(oriented.GetDirection()).reshape(3, 3)
    middle = np.array(oriented.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in oriented.GetSize()]))
    a, b, c = (float(v) for v in middle - direction @ (np.array([x - 1, y - 1, z - 1]) * spacing / 2))
    return Grid((x, y, z), (a, b, c), (spacing,) * 3, tuple(float(v) for v in direction.ravel()))


def read_template(atlas: Atlas) -> sitk.Image:
    """The skull-stripped T1 of MNI152 (Fonov et al. 2011) in the space of an atlas, float32, 2 mm; background is 0."""
    resource = files("brats_infer.preparation.registration") / "data" / TEMPLATE
    with as_file(resource) as path:
        template = sitk.Cast(sitk.ReadImage(str(Path(path))), sitk.sitkFloat32)
    if atlas is not Atlas.SRI24:
        return template
    matrix = np.array(MNI_FROM_SRI24)
    place = sitk.AffineTransform(matrix[:, :3].ravel().tolist(), matrix[:, 3].tolist())
    full = ATLAS_GRIDS[Atlas.SRI24]
    x, y, z = (n // 2 for n in full.size)
    return Grid((x, y, z), full.origin, (2.0, 2.0, 2.0)).resample(template, place)
