from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer.preparation.masks.brain import mask_of_stripped
from brats_infer.preparation.registration.register import (
    Moving,
    Registration,
    brain_points,
    is_mirrored,
    register,
    registration_copy,
)
from tests.preparation.scans import brain_image, image_of, seen


def copy_of(scan: sitk.Image) -> Moving:
    return registration_copy(scan, mask_of_stripped(scan))


def error_mm(found: sitk.Transform, true: sitk.Transform, moving: Moving) -> float:
    points = brain_points(moving.brain).tolist()
    there = np.array([found.TransformPoint(point) for point in points])
    return float(np.linalg.norm(there - [true.TransformPoint(point) for point in points], axis=1).mean())


@pytest.mark.parametrize("inverted", [False, True], ids=["same contrast", "inverted contrast"])
def test_turned_and_shifted_head_with_thick_slices_comes_back_within_one_mm(inverted: bool) -> None:
    fixed = copy_of(brain_image())
    scan, place = seen(brain_image(inverted=inverted), (0.25, -0.2, 0.3), (20.0, -25.0, 15.0), (2.0, 2.0, 5.0))
    found = register(fixed, copy_of(scan))
    assert error_mm(found.transform, place, fixed) < 1
    assert not found.failed
    assert found.after > found.before


def test_registration_whose_directions_disagree_has_failed() -> None:
    good = Registration(sitk.Euler3DTransform(), before=0.2, after=0.8, disagreement=0.3)
    assert not good.failed
    assert replace(good, disagreement=2.5).failed
    assert replace(good, after=0.1).failed


def test_mirror_image_is_told_and_the_true_one_is_not() -> None:
    fixed = copy_of(brain_image())
    for flipped in (False, True):
        values = sitk.GetArrayFromImage(brain_image()).T
        head = image_of(values[::-1] if flipped else values, (2.0, 2.0, 2.0))
        scan, _ = seen(head, (0.1, 0, 0), (5, 5, 5), (2, 2, 2))
        moving = copy_of(scan)
        assert is_mirrored(fixed, moving, register(fixed, moving)) is flipped
