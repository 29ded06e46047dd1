"""The anatomy that comes with a package: the MNI152 tissue maps of nilearn (Fonov et al. 2011)."""

from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations as nio
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from brats_infer.errors import UsageError
from brats_infer.image.crop import CANONICAL_AXES
from brats_infer.phantom.anatomy import Tissue, boxed

FILES = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
VENTRICLE_DEPTH = 28  # mm below the brain's surface: fluid there is taken for a ventricle


def mni152_anatomy() -> Tensor:
    """(X, Y, Z) uint8 `Tissue` map at 1 mm: fluid, ventricles, grey and white matter. Raises UsageError."""
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        raise UsageError("--anatomy mni152: needs nilearn: pip install nilearn, or give a folder")
    folder = Path(package.origin).parent / "datasets" / "data"  # importing nilearn itself takes seconds
    grey, white, head = (_read(folder / FILES.format(name)) for name in ("gm", "wm", "t1"))
    brain = ndimage.binary_fill_holes(head > 0)
    tissues = np.where(white > 0.5, Tissue.WHITE, np.where(grey > 0.4, Tissue.CORTEX, Tissue.CSF))
    deep = ndimage.distance_transform_edt(brain) > VENTRICLE_DEPTH
    tissues[(tissues == Tissue.CSF) & deep] = Tissue.VENTRICLE
    return torch.from_numpy(boxed(np.where(brain, tissues, 0).astype(np.uint8)))


def _read(path: Path) -> NDArray[np.float32]:
    """(X, Y, Z) in 0..1 on canonical axes."""
    image = nib.load(path)
    turn = nio.ornt_transform(nio.io_orientation(image.affine), nio.axcodes2ornt(CANONICAL_AXES))
    data = nio.apply_orientation(np.asarray(image.dataobj), turn)
    return np.asarray(data / data.max(), np.float32)
