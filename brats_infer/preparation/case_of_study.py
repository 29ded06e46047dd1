"""One study -> one BraTS case: register, resample once, strip the skull."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer.errors import CaseError
from brats_infer.preparation.masks.brain import BrainMember, brain_of, is_stripped, largest, mask_of_stripped
from brats_infer.preparation.masks.coverage import coverages
from brats_infer.preparation.registration.grids import ATLAS_GRIDS, Grid, grid_around, read_template
from brats_infer.preparation.registration.register import (
    Moving,
    Registration,
    is_mirrored,
    register,
    registration_copy,
)
from brats_infer.preparation.registration.scan import read_scan, zyx
from brats_infer.preparation.studies.study import CONTRASTS
from brats_infer.settings import Atlas

REFERENCES = ("t1c", "t1n", "t2f", "t2w")
"""The first of them that a study has, and that shows the whole brain, is registered to the atlas, the others to it."""
ATLAS_LIMIT = 4.0  # mm; both directions of a registration to another brain differ by less, or it failed
MIN_LITRES = 0.2  # of the brain in one image
CUT_BRAIN = 0.7  # of the largest brain among the contrasts
MIN_ATLAS_OVERLAP = 0.8  # Dice of the brain and the template's; heads that are upside down reach less


@dataclass(frozen=True)
class Prepared:
    """A case on the output grid."""

    images: dict[str, sitk.Image]
    """{contrast: float32, 0 outside of the brain}"""
    heads: dict[str, sitk.Image]
    """{contrast: the same image with everything around the brain}"""
    brain: sitk.Image
    """uint8"""
    template: sitk.Image | None
    """The template on the output grid; None without an atlas."""
    reference: str
    native: dict[str, Grid]
    """{contrast: the grid of the scan}"""
    transforms: dict[str, sitk.AffineTransform]
    """{contrast: a point of the output grid -> a point of the scan, mm}; rigid."""
    registrations: dict[str, Registration]
    """{contrast: its registration to the reference; the reference: the template to it}"""
    coverage: dict[str, float]
    """{contrast: the share of the brain in the scan's field of view}"""


def prepare_case(
    name: str, scans: Mapping[str, Path], atlas: Atlas, member: BrainMember, mask: Path | None = None
) -> Prepared:
    """A study's scans {contrast: NIfTI} -> a case. `mask` is the brain, in the space of the reference.

    Raises CaseError where a scan is no head's, or a registration fails.
    """
    images = {contrast: read_scan(scans[contrast]) for contrast in CONTRASTS if contrast in scans}
    reference = next(contrast for contrast in REFERENCES if contrast in images)
    brains = _brains(images, reference, member, mask)
    if mask is None:
        reference = _first_whole(brains)
    copies = {contrast: _copied(name, contrast, image, brains[contrast]) for contrast, image in images.items()}
    to_reference, registrations = _to_reference(name, copies, reference)
    grid, template = grid_around(images[reference], 1.0), None
    place = sitk.Euler3DTransform()
    if atlas is not Atlas.NONE:
        grid, template = ATLAS_GRIDS[atlas], read_template(atlas)
        registrations[reference] = _to_atlas(name, reference, template, copies[reference])
        place = registrations[reference].transform
        template = grid.resample(template, sitk.Transform())
    transforms = {contrast: composed(place, to_reference[contrast]) for contrast in images}
    voted = {reference: brains[reference]} if mask else brains
    votes = [zyx(grid.resample(brain, transforms[c], outside=float("nan"))) for c, brain in voted.items()]
    inside = brain_of(np.stack(votes), name)
    heads = {contrast: grid.resample(image, transforms[contrast]) for contrast, image in images.items()}
    brain = sitk.GetImageFromArray(inside.astype(np.uint8))
    brain.CopyInformation(grid.empty())
    centre = Moving.of(template or brain, brain).centre
    return Prepared(
        images={contrast: sitk.Mask(head, brain) for contrast, head in heads.items()},
        heads=heads,
        brain=brain,
        template=template,
        reference=reference,
        native={contrast: Grid.of(image) for contrast, image in images.items()},
        transforms=transforms,
        registrations=registrations,
        coverage=coverages(images, brains, transforms, centre, template),
    )


def composed(first: sitk.Transform, second: sitk.Transform) -> sitk.AffineTransform:
    """One transform for both: a point goes through `first`, then through `second`."""
    origin = np.array(second.TransformPoint(first.TransformPoint((0.0, 0.0, 0.0))))
    ends = [second.TransformPoint(first.TransformPoint(axis)) for axis in np.eye(3).tolist()]
    matrix = (np.array(ends) - origin).T
    return sitk.AffineTransform(matrix.ravel().tolist(), origin.tolist())


def _brains(
    images: Mapping[str, sitk.Image], reference: str, member: BrainMember, mask: Path | None
) -> dict[str, sitk.Image]:
    """{contrast: the probability of brain}. A stripped image is its own mask."""
    found = {}
    for contrast, image in images.items():
        if contrast == reference and mask is not None:
            found[contrast] = sitk.Cast(read_scan(mask) > 0, sitk.sitkFloat32)
        elif is_stripped(image):
            found[contrast] = mask_of_stripped(image)
        else:
            found[contrast] = member.probability(image)
    return found


def _first_whole(brains: Mapping[str, sitk.Image]) -> str:
    """The first of the references that is not clearly cut: nothing registers well to a part of a brain."""
    found = {contrast: _litres(brain) for contrast, brain in brains.items()}
    enough = CUT_BRAIN * max(found.values())
    return next(contrast for contrast in REFERENCES if found.get(contrast, -1) >= enough)


def _litres(brain: sitk.Image) -> float:
    inside = largest(zyx(brain) > 0.5)
    return np.count_nonzero(inside) * float(np.prod(brain.GetSpacing())) / 1e6


def _copied(name: str, contrast: str, image: sitk.Image, brain: sitk.Image) -> Moving:
    if _litres(brain) < MIN_LITRES:
        raise CaseError(f"{name}: no brain was found in {contrast}: take another series, or give a mask by --brain")
    return registration_copy(image, brain)


def _to_reference(
    name: str, copies: Mapping[str, Moving], reference: str
) -> tuple[dict[str, sitk.Transform], dict[str, Registration]]:
    """{contrast: a point of the reference -> a point of the scan}, and the registrations. Raises CaseError."""
    transforms: dict[str, sitk.Transform] = {reference: sitk.Euler3DTransform()}
    registrations = {}
    for contrast, copy in copies.items():
        if contrast == reference:
            continue
        found = register(copies[reference], copy)
        if is_mirrored(copies[reference], copy, found):  # before: a mirrored image may fail to register
            raise CaseError(f"{name}: {contrast} is a mirror image of {reference}: mend the header of one of them")
        if found.failed:
            raise CaseError(
                f"{name}: {contrast} could not be registered to {reference} ({found.text}): look at both images"
            )
        transforms[contrast], registrations[contrast] = found.transform, found
    return transforms, registrations


def _to_atlas(name: str, reference: str, template: sitk.Image, copy: Moving) -> Registration:
    fixed = Moving.of(template, template > 0)
    found = register(fixed, copy)
    overlap = _overlap(fixed, copy, found.transform)
    if overlap < MIN_ATLAS_OVERLAP or found.disagreement > ATLAS_LIMIT:
        raise CaseError(
            f"{name}: {reference} could not be registered to the atlas ({found.text}; the brains overlap by "
            f"{overlap:.2f}): take a series of the whole head, mend its orientation, or use --atlas none"
        )
    return found


def _overlap(fixed: Moving, moving: Moving, transform: sitk.Transform) -> float:
    """Dice of both brains in the moving image's field of view."""
    everything = sitk.BinaryThreshold(moving.image, -float("inf"), float("inf"))
    brain, field = (
        sitk.GetArrayFromImage(sitk.Resample(each, fixed.brain, transform, sitk.sitkNearestNeighbor)) > 0
        for each in (moving.brain, everything)
    )
    template = (sitk.GetArrayViewFromImage(fixed.brain) > 0) & field
    both = np.count_nonzero(brain) + np.count_nonzero(template)
    return 2 * np.count_nonzero(brain & template) / both if both else 0.0
