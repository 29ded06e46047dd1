"""Rigid registration by mutual information, and how good it is (Mattes et al. 2003; SimpleITK)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer.preparation.registration.grids import grid_around

WORKING_SPACING = 2.0  # mm of the copies that are registered
COARSE = 2  # the first level's voxels in working voxels, along each axis
TURNS = (-0.3, 0.0, 0.3)  # radians about each axis; the starts
STARTS = 3  # of them that are refined
BINS = 32
SAMPLES = 100_000  # voxels of the whole image; about a third lies near the brain
MIRROR_GAIN = 0.03  # nats; a mirror image that fits better by this is the true one
FIELD_OF_BRAIN = 12.0  # mm around the brain that count


@dataclass(frozen=True)
class Moving:
    """A copy of an image, made for registration."""

    image: sitk.Image
    """float32, about 2 mm, of even brightness."""
    brain: sitk.Image
    """uint8 mask on the same grid."""
    centre: tuple[float, float, float]
    """The brain's middle, mm."""

    @classmethod
    def of(cls, image: sitk.Image, brain: sitk.Image) -> "Moving":
        """An image and its brain on the same grid."""
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.Execute(brain)
        return cls(image, brain, statistics.GetCentroid(1))


@dataclass(frozen=True)
class Registration:
    """A rigid transform, with its quality."""

    LIMIT: ClassVar[float] = 1.0
    """mm; both directions of a registration differ by less, or it failed."""

    transform: sitk.Euler3DTransform
    """A point of the fixed image -> a point of the moving image, mm."""
    before: float
    """Mutual information with the headers' own places, nats."""
    after: float
    """Mutual information, nats."""
    disagreement: float
    """mm: the mean over the brain between both directions of the registration."""

    @property
    def failed(self) -> bool:
        """Whether the directions disagree, or the images are not more alike than before."""
        return self.disagreement > self.LIMIT or self.after < self.before - 0.01

    @property
    def text(self) -> str:
        """The quality in words."""
        return f"both directions differ by {self.disagreement:.1f} mm, mutual information {self.after:.2f}"


def registration_copy(image: sitk.Image, probability: sitk.Image) -> Moving:
    """A copy at 2 mm without its bias field (N4, Tustison et al. 2010); `probability` is the brain's."""
    grid = grid_around(image, WORKING_SPACING)
    blurred = sitk.SmoothingRecursiveGaussian(
        image, [max(0.1, (WORKING_SPACING - mm) / 2.355) for mm in image.GetSpacing()]
    )
    copy = grid.resample(blurred, sitk.Transform())
    brain = grid.resample(probability, sitk.Transform()) > 0.5
    return Moving.of(_without_bias(copy, brain), brain)


def register(fixed: Moving, moving: Moving) -> Registration:
    """The rigid transform of largest mutual information in the brain, from several starts, checked in reverse."""
    start = _best_start(fixed, moving)
    there = _refined(fixed, moving, start)
    back = _refined(moving, fixed, sitk.Euler3DTransform(there.GetInverse()))
    own = sitk.Euler3DTransform()
    return Registration(
        there,
        before=_information(fixed, moving, own),
        after=_information(fixed, moving, there),
        disagreement=_distance(fixed, there, back),
    )


def is_mirrored(fixed: Moving, moving: Moving, found: Registration) -> bool:
    """Whether the moving image fits better when left and right are exchanged."""
    image, brain = (_mirrored(each, fixed, found.transform) for each in (moving.image, moving.brain))
    other = Moving.of(image, brain)
    placed = _refined(fixed, other, sitk.Euler3DTransform())
    return _information(fixed, other, placed) > found.after + MIRROR_GAIN


def _mirrored(image: sitk.Image, fixed: Moving, transform: sitk.Transform) -> sitk.Image:
    """The moving image on the fixed grid, left and right exchanged about the middle of the fixed brain."""
    flip = sitk.AffineTransform([-1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0], fixed.centre)
    place = sitk.CompositeTransform([transform, flip])  # the last one is applied first
    method = sitk.sitkNearestNeighbor if image.GetPixelID() == sitk.sitkUInt8 else sitk.sitkLinear
    return sitk.Resample(image, fixed.image, place, method)


def _without_bias(image: sitk.Image, brain: sitk.Image) -> sitk.Image:
    """N4 on every second voxel, in the brain."""
    positive = image - min(0.0, float(sitk.GetArrayViewFromImage(image).min()))
    factors = [2] * 3
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([20, 20])
    n4.Execute(sitk.Shrink(positive, factors), sitk.Shrink(brain, factors))
    return sitk.Cast(positive / sitk.Exp(n4.GetLogBiasFieldAsImage(positive)), sitk.sitkFloat32)


def _near(moving: Moving) -> sitk.Image:
    reach = [round(FIELD_OF_BRAIN / mm) for mm in moving.image.GetSpacing()]
    return sitk.BinaryDilate(moving.brain, reach, sitk.sitkBox)


def _method(fixed: Moving) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / fixed.image.GetNumberOfPixels()))
    method.SetMetricFixedMask(_near(fixed))
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _shrunk(moving: Moving, factor: int) -> Moving:
    sigma = factor * 0.4 * moving.image.GetSpacing()[0]
    blurred = sitk.SmoothingRecursiveGaussian(moving.image, sigma)
    return Moving(sitk.Shrink(blurred, [factor] * 3), sitk.Shrink(moving.brain, [factor] * 3), moving.centre)


def _best_start(fixed: Moving, moving: Moving) -> sitk.Euler3DTransform:
    """The best of 27 turns about the brains' middles and of the headers' own places; three are refined."""
    coarse, other = _shrunk(fixed, COARSE), _shrunk(moving, COARSE)
    starts = [_turned(fixed, moving, (a, b, c)) for a in TURNS for b in TURNS for c in TURNS]
    starts.append(sitk.Euler3DTransform(fixed.centre))  # the middle of a cut brain lies elsewhere
    best = sorted(starts, key=lambda start: -_information(coarse, other, start))[:STARTS]
    refined = [_refined(coarse, other, start) for start in best]
    return max(refined, key=lambda transform: _information(coarse, other, transform))


def _turned(fixed: Moving, moving: Moving, angles: Sequence[float]) -> sitk.Euler3DTransform:
    """Turned by angles about the fixed brain's middle, which goes to the moving brain's."""
    shift = [b - a for a, b in zip(fixed.centre, moving.centre, strict=True)]
    return sitk.Euler3DTransform(fixed.centre, *angles, shift)


def _refined(fixed: Moving, moving: Moving, start: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
    method = _method(fixed)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100, relaxationFactor=0.5)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed.image, moving.image)
    return transform


def _information(fixed: Moving, moving: Moving, transform: sitk.Transform) -> float:
    """Mutual information in nats; 0 where the images do not meet."""
    method = _method(fixed)
    method.SetInitialTransform(transform)
    try:
        return -float(method.MetricEvaluate(fixed.image, moving.image))
    except RuntimeError:  # all samples map outside of the moving image
        return 0.0


def _distance(fixed: Moving, there: sitk.Transform, back: sitk.Transform) -> float:
    """mm: the mean distance of a brain's point from itself, after both ways."""
    points = brain_points(fixed.brain)
    returned = [back.TransformPoint(there.TransformPoint(point)) for point in points.tolist()]
    return float(np.linalg.norm(np.array(returned) - points, axis=1).mean())


def brain_points(brain: sitk.Image, count: int = 200) -> NDArray[np.float64]:
    """(N, 3): places of voxels spread over a mask, mm."""
    where = np.argwhere(sitk.GetArrayViewFromImage(brain) > 0)[:, ::-1]
    chosen = where[:: max(1, len(where) // count)].tolist()
    return np.array([brain.TransformIndexToPhysicalPoint(index) for index in chosen])
