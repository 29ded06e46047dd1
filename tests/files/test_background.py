"""A background that is not 0: field report constant-background."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import Volume, read_images, with_background_0
from tests.case_files import SRI24, head, write_case

PATH = Path("case/t1n.nii.gz")


def positive(seed: int = 0) -> NDArray[np.int16]:
    """A brain without negative voxels, in a background of 0."""
    return np.abs(head(seed=seed))


def volume_of(data: NDArray[np.generic]) -> Volume:
    x, y, z = data.shape
    return Volume(np.asfortranarray(data), Geometry.of_affine((x, y, z), SRI24))


@pytest.mark.parametrize("values", [(-1, -1, -1, -1), (-1024, -1024, -1024, -1024), (-1, 0, -1024, -7)])
def test_constant_background_is_background_of_each_contrast_with_a_warning(
    tmp_path: Path, values: tuple[int, ...]
) -> None:
    paths = write_case(tmp_path, image=lambda i: np.where(positive(i) == 0, values[i], positive(i)).astype(np.int16))
    volumes = read_images(paths.values())
    for i, (value, (path, volume)) in enumerate(zip(values, volumes.items(), strict=True)):
        np.testing.assert_array_equal(volume.data, positive(i))
        assert volume.data.dtype == np.int16
        told = (f"{path}: its background is {value}, not 0: it was taken as 0",)
        assert volume.warnings == (told if value else ())


def test_constant_background_that_is_the_image_s_minimum_keeps_the_voxel_it_comes_from() -> None:
    """Skull strippers fill with the minimum, which one voxel of the brain has by itself."""
    image = np.where(head() == 0, 0, np.random.default_rng(0).normal(size=head().shape)).astype(np.float32)
    minimum = image.min()
    found = with_background_0(PATH, volume_of(np.where(image == 0, minimum, image)))
    np.testing.assert_array_equal(found.data, image)
    assert found.data.dtype == np.float32
    assert found.data.flags.f_contiguous, "the file's order"


def test_constant_background_is_known_where_the_brain_touches_a_face() -> None:
    image = positive()
    image[:, :, 0] = np.where(image[:, :, 5] > 0, 9, 0)
    image[3, 3, 5], image[6, 6, 5] = 0, 7
    found = with_background_0(PATH, volume_of(np.where(image == 0, np.int16(-1024), image)))
    np.testing.assert_array_equal(found.data, image)


def test_large_cavities_of_a_positive_background_are_background_too() -> None:
    image = positive()
    image[4:8, 5:9, 3:7] = 0
    found = with_background_0(PATH, volume_of(np.where(image == 0, np.int16(4), image)))
    assert not found.data[4:8, 5:9, 3:7].any()


@pytest.mark.parametrize("kind", ["background 0", "air with noise", "constant", "brain to the edge"])
def test_images_without_a_constant_background_stay_as_they_are(kind: str) -> None:
    noise = np.random.default_rng(0).integers(1, 9, head().shape).astype(np.int16)
    image = {
        "background 0": head(),
        "air with noise": np.where(head() == 0, noise, head()),
        "constant": np.full_like(head(), 7),
        "brain to the edge": head()[4:9, 5:10, 4:7],
    }[kind]
    volume = volume_of(image)
    assert with_background_0(PATH, volume) is volume
