"""Images of the field's libraries in memory: field report python-api."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch
from numpy.typing import NDArray

from brats_infer.errors import CaseError, UsageError
from brats_infer.files.nifti import Volume, read_images
from brats_infer.image.in_memory import volumes_in_memory
from tests.case_files import SHAPE, SRI24, head, write_case
from tests.files.places import OBLIQUE

NAMES = ("t1n", "t1c", "t2w", "t2f")


def arrays() -> dict[str, NDArray[np.float32]]:
    return {name: head(seed=i).astype(np.float32) for i, name in enumerate(NAMES)}


def changed(**images: Any) -> dict[str, Any]:
    return {**arrays(), **images}


def assert_same(found: dict[Path, Volume], expected: dict[Path, Volume]) -> None:
    for one, other in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_array_equal(one.data, other.data)
        np.testing.assert_allclose(one.geometry.affine, other.geometry.affine, atol=1e-5)
    assert [path.name.split("-")[-1].partition(".")[0] for path in expected] == [path.name for path in found]


@pytest.mark.parametrize("affine", [SRI24, OBLIQUE])
def test_images_of_nibabel_and_simpleitk_lie_where_their_files_lie(tmp_path: Path, affine: NDArray[np.float64]) -> None:
    orthogonal = affine.copy()
    orthogonal[:3, :3] = np.linalg.qr(affine[:3, :3])[0]  # ITK refuses sheared axes
    paths = write_case(tmp_path, affine=orthogonal)
    expected = read_images(paths.values())
    assert_same(volumes_in_memory({name: nib.load(path) for name, path in paths.items()}), expected)
    assert_same(volumes_in_memory({name: sitk.ReadImage(str(path)) for name, path in paths.items()}), expected)
    for name, kind in (("n2", nib.Nifti2Image), ("mgh", nib.MGHImage)):
        images = {n: kind(np.asarray(nib.load(path).dataobj, np.float32), orthogonal) for n, path in paths.items()}
        found = volumes_in_memory(images)
        assert_same(found, expected)
        assert not any(volume.warnings for volume in found.values()), name


def test_the_header_s_fields_of_a_nifti_image_come_back(tmp_path: Path) -> None:
    paths = write_case(tmp_path)
    for found, expected in zip(
        volumes_in_memory({name: nib.load(path) for name, path in paths.items()}).values(),
        read_images(paths.values()).values(),
        strict=True,
    ):
        for name, value in expected.geometry.fields.items():
            np.testing.assert_array_equal(found.geometry.fields[name], value)


def test_tensors_of_any_kind_are_arrays() -> None:
    expected = volumes_in_memory(arrays(), SRI24)
    for kind in (torch.float64, torch.float32, torch.int16):
        tensors = {name: torch.from_numpy(x).to(kind) for name, x in arrays().items()}
        if kind.is_floating_point:
            tensors = {name: x.requires_grad_() for name, x in tensors.items()}
        assert_same(volumes_in_memory(tensors, SRI24), {Path(f"x-{path.name}"): v for path, v in expected.items()})
    rounded = {name: torch.from_numpy(x).bfloat16() for name, x in arrays().items()}
    for volume, x in zip(volumes_in_memory(rounded, SRI24).values(), rounded.values(), strict=True):
        np.testing.assert_array_equal(volume.data, x.float().numpy())


def test_nan_outside_the_brain_is_background_with_a_warning() -> None:
    for images, count in (
        ({name: np.where(x == 0, np.nan, x) for name, x in arrays().items()}, 4),
        (changed(t2w=np.where(arrays()["t2w"] == 0, np.nan, arrays()["t2w"])), 1),
    ):
        volumes = volumes_in_memory(images, SRI24)
        for volume, expected in zip(volumes.values(), arrays().values(), strict=True):
            np.testing.assert_array_equal(volume.data, expected)
        warnings = [warning for volume in volumes.values() for warning in volume.warnings]
        assert len(warnings) == count
        assert all("NaN voxels were taken as background" in warning for warning in warnings)


def test_nan_inside_the_brain_is_background_if_all_contrasts_have_it_and_refused_else() -> None:
    """For example a lesion that was cut out of all contrasts."""
    images = arrays()
    for x in images.values():
        x[6, 7, 5] = np.nan
    assert all(volume.data[6, 7, 5] == 0 for volume in volumes_in_memory(images, SRI24).values())
    images["t1n"][6, 7, 5] = 3
    with pytest.raises(CaseError, match=r"^images/t1c: 1 voxels are NaN, some of them inside the brain: replace"):
        volumes_in_memory(images, SRI24)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.ones((2, 2)), r"^images/t2w: has the shape \(2, 2\): give one volume \(X, Y, Z\)"),
        (np.ones((3, 4, 5, 2)), r"^images/t2w: has the shape \(3, 4, 5, 2\): give one volume"),
        (np.ones((0, 4, 5)), r"^images/t2w: has the shape \(0, 4, 5\)"),
        (np.full(SHAPE, np.inf), r"^images/t2w: 1680 voxels are infinite in float32: replace them by numbers"),
        (np.full(SHAPE, 1e300), r"^images/t2w: 1680 voxels are infinite"),
        (torch.ones(SHAPE, dtype=torch.complex64), r"^images/t2w: is no array of numbers .*: give an array, a tensor"),
        (object(), r"^images/t2w: is no array of numbers"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorUInt8, 3), r"^images/t2w: its voxels have 3 components: give one number"),
        (sitk.Image([4, 4], sitk.sitkUInt8), r"^images/t2w: has the shape \(4, 4\): give one volume"),
        (nib.Nifti1Image(np.ones((4, 4, 4, 2), np.int16), np.eye(4)), r"^images/t2w: its shape is \(4, 4, 4, 2\)"),
        (nib.Nifti1Image(np.ones((4, 4, 4), np.int16), SRI24), r"^images/t2w: its shape \(4, 4, 4\) is not \(12"),
        (nib.MGHImage(head(), np.diag([1e-3, 1, 1, 1])), r"^images/t2w: its affine means voxels of 0.001x1x1 mm"),
    ],
)
def test_what_is_no_volume_is_refused_by_name_with_a_remedy(image: Any, reason: str) -> None:
    with pytest.raises(CaseError, match=reason):
        volumes_in_memory(changed(t2w=image), SRI24)


def test_a_damaged_file_behind_an_image_of_nibabel_is_refused(tmp_path: Path) -> None:
    paths = write_case(tmp_path)
    images = {name: nib.load(path) for name, path in paths.items()}
    paths["t2w"].write_bytes(paths["t2w"].read_bytes()[:400])
    with pytest.raises(CaseError, match=r"^images/t2w: is no array of numbers"):
        volumes_in_memory(images)


def test_an_affine_that_contradicts_an_image_s_own_is_refused(tmp_path: Path) -> None:
    images = {name: nib.load(path) for name, path in write_case(tmp_path).items()}
    assert len(volumes_in_memory(images, SRI24)) == 4
    with pytest.raises(UsageError, match=r"^images/t1n: has an affine of its own, and affine= is another one"):
        volumes_in_memory(images, np.eye(4))
    with pytest.raises(UsageError, match=r"^affine of images/t1n: give a matrix \(4, 4\)"):
        volumes_in_memory({name: nib.AnalyzeImage(head(), None) for name in NAMES})


def test_a_background_that_is_not_0_is_told_of_arrays_too() -> None:
    """Field report constant-background."""
    images = {name: np.where(x == 0, -1024, np.abs(x)) for name, x in arrays().items()}
    for name, volume in zip(NAMES, volumes_in_memory(images, SRI24).values(), strict=True):
        assert volume.warnings == (f"images/{name}: its background is -1024, not 0: it was taken as 0",)
        np.testing.assert_array_equal(volume.data, np.abs(arrays()[name]))
