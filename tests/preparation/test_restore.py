import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer.preparation.record import Scanned
from brats_infer.preparation.registration.grids import Grid
from brats_infer.preparation.restore import labels_on_scan, restored_regions
from brats_infer.preparation.write import whole_numbers
from brats_infer.tasks import TASKS
from tests.preparation.scans import image_of

TASK = TASKS["gli"]
RADII = {2: 30.0, 1: 20.0, 3: 12.0}


def sphere_labels() -> sitk.Image:
    """A tumor of three shells around (5, -4, 3), on 1 mm voxels."""
    grid = np.meshgrid(*[np.arange(100) - 49.5] * 3, indexing="ij")
    distance = np.linalg.norm(np.stack(grid) - np.array([5, -4, 3]).reshape(3, 1, 1, 1), axis=0)
    labels = np.zeros(distance.shape, np.float32)
    for label, radius in RADII.items():
        labels[distance <= radius] = label
    return image_of(labels, (1.0, 1.0, 1.0))


def scan_of(transform: sitk.Euler3DTransform, spacing: tuple[float, float, float]) -> Scanned:
    size = tuple(round(140 / mm) for mm in spacing)
    middle = transform.TransformPoint((0.0, 0.0, 0.0))
    origin = tuple(c - (n - 1) / 2 * mm for c, n, mm in zip(middle, size, spacing, strict=True))
    affine = sitk.AffineTransform(transform.GetMatrix(), middle)
    return Scanned(
        source="",
        series="",
        size=size,
        origin=origin,
        spacing=spacing,
        direction=(1, 0, 0, 0, 1, 0, 0, 0, 1),
        matrix=affine.GetMatrix(),
        translation=middle,
        registration=None,
        coverage=1.0,
    )


def test_volumes_on_thick_turned_slices_agree_to_three_percent() -> None:
    image = sphere_labels()
    place = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, -0.2, 0.25, (12.0, -7.0, 30.0))
    values = sitk.GetArrayFromImage(image).astype(np.uint8)
    for spacing in ((0.7, 0.7, 5.0), (1.0, 4.0, 1.0), (1.0, 1.0, 1.0)):
        scanned = scan_of(place, spacing)
        native = labels_on_scan(restored_regions(values, TASK), Grid.of(image), scanned, TASK)
        assert abs(np.count_nonzero(native) * np.prod(spacing) / np.count_nonzero(values) - 1) < 0.03
        centre = np.argwhere(native > 0).mean(0) * spacing + scanned.origin
        assert np.linalg.norm(centre - place.TransformPoint((5.0, -4.0, 3.0))) < 0.5


def test_probabilities_agree_with_the_final_map_on_its_own_grid() -> None:
    image = sphere_labels()
    values = sitk.GetArrayFromImage(image).astype(np.uint8)
    random = np.random.default_rng(0).random((3, *values.shape), np.float32)
    scanned = scan_of(sitk.Euler3DTransform(), (1.0, 1.0, 1.0))
    native = labels_on_scan(restored_regions(values, TASK, random), Grid.of(image), scanned, TASK)
    assert np.array_equal(native[20:120, 20:120, 20:120], values.T)


def test_brain_is_never_rounded_to_background() -> None:
    image = np.array([[[0.0, 0.2, 5000.0]]], np.float32)
    assert whole_numbers(image).tolist() == [[[0, 1, 5000]]]
    assert whole_numbers(image / 5000).tolist() == [[[0, 1, 10000]]]
