"""Lesions of 2024: pieces of a region that dilation merges, in prediction and reference alike."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brats_infer.evaluate.lesionwise import Labels, dilated_lesions
from brats_infer.evaluate.surface import Mask
from brats_infer.image.voxels import Box

Numbers = NDArray[np.intp]
MOST_16 = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Merged:
    """The lesions of one region in one label map, numbered from 1."""

    mask: Mask
    """(X, Y, Z): the region's voxels."""
    reach: Labels
    """(X, Y, Z): the number of the lesion whose dilated mask holds the voxel."""
    voxels: Numbers
    """(1 + lesions,): the voxels of each lesion, without dilation."""

    @property
    def numbers(self) -> Labels:
        """(X, Y, Z): the lesion of each voxel of the region."""
        return self.reach * self.mask

    def renumbered(self, new: Numbers) -> "Merged":
        """Lesions with other numbers: `new` (1 + lesions,) holds that of each. 0 removes a lesion."""
        reach = new.astype(self.reach.dtype)[self.reach]
        voxels = np.zeros(int(new.max(initial=0)) + 1, np.intp)
        np.add.at(voxels, new, self.voxels)
        voxels[0] = 0
        return Merged(self.mask & (reach != 0), reach, voxels)

    def inside(self, box: Box) -> "Merged":
        """The same lesions in a box that holds the mask."""
        return replace(self, mask=np.ascontiguousarray(self.mask[box]), reach=np.ascontiguousarray(self.reach[box]))

    def without_small(self, limit: float) -> "Merged":
        """Without lesions of `limit` voxels or fewer; the numbers of the others stay."""
        small = self.voxels <= limit
        if not small[1:].any():
            return self
        return self.renumbered(np.where(small, 0, np.arange(len(small))))


def merged(mask: Mask, steps: int) -> Merged:
    """The lesions of a mask (X, Y, Z): 26-connected components of the mask after `steps` dilations.

    They are numbered in the raster order of the dilated mask, on which joined lesions depend.
    """
    reach = dilated_lesions(mask, steps)
    if len(reach) and reach.max() <= MOST_16:
        reach = reach.astype(np.uint16)  # half the memory, which takes most of the time
    voxels = np.bincount(reach[mask], minlength=int(reach.max(initial=0)) + 1)
    found = Merged(mask, reach, voxels)
    if len(voxels) <= 2:
        return found
    order = _raster_order(reach, len(voxels))
    return found if (order[1:] > order[:-1]).all() else found.renumbered(order)


def _raster_order(components: Labels, count: int) -> Numbers:
    """(count,): the place of each component in the order of their first voxels (C order); 0 stays 0."""
    flat = components.ravel()
    begins = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # of runs; the first voxel may be one too
    begins = np.concatenate(([0], begins))
    first = np.zeros(count, np.intp)
    first[flat[begins][::-1]] = begins[::-1]  # the last assignment stays, which is the first voxel
    first[0] = -1
    order = np.zeros(count, np.intp)
    order[np.argsort(first)] = np.arange(count)
    return order
