"""Headers that lie, and voxels that are no numbers or no labels."""

import gzip
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.files.labels import read_labels
from brats_infer.files.nifti import read_volume
from tests.case_files import SHAPE, edit_header, head, repack, unpacked
from tests.case_files import write_image as save
from tests.files.places import reason


def allocated_by(work: Callable[[], object]) -> tuple[int, float]:
    """(peak bytes, seconds)."""
    began = time.perf_counter()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1], time.perf_counter() - began
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_header_that_claims_32767_cubed_is_refused_at_once_with_nothing_allocated(
    tmp_path: Path, ending: str
) -> None:
    path = save(tmp_path / f"image{ending}", head((4, 5, 3)))
    edit_header(path, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    peak, seconds = allocated_by(lambda: reason(path))
    assert "more than 134217728" in reason(path)
    assert peak < 5e6
    assert seconds < 1


def test_a_header_that_claims_more_than_the_file_holds_is_refused(image: Path) -> None:
    edit_header(image, dim=[3, 64, 64, 64, 1, 1, 1, 1])
    assert "truncated" in reason(image)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_no_more_is_allocated_than_the_file_can_hold(tmp_path: Path, ending: str) -> None:
    path = save(tmp_path / f"image{ending}", head((4, 5, 3)))
    edit_header(path, dim=[3, 500, 500, 500, 1, 1, 1, 1])
    peak, _ = allocated_by(lambda: reason(path))
    assert "truncated" in reason(path)
    assert peak < 5e6


def test_what_is_packed_as_densely_as_gzip_can_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((256, 256, 128), np.int16), np.eye(4)), path)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 9))
    assert path.stat().st_size < 2 * 256 * 256 * 128 / 1000
    assert read_volume(path).data.shape == (256, 256, 128)


def test_a_gzip_bomb_is_refused_at_the_size_that_its_header_announces(tmp_path: Path) -> None:
    path = save(tmp_path / "image.nii.gz", head((4, 5, 3)))
    path.write_bytes(gzip.compress(bytes(unpacked(path))) + gzip.compress(bytes(2**26), 1) * 16)  # 1 GiB unpacked
    peak, seconds = allocated_by(lambda: reason(path))
    assert "goes on after the voxels" in reason(path)
    assert peak < 5e6
    assert seconds < 1


@pytest.mark.parametrize(
    "dim",
    [
        *([0, 12, 14, 10, 1, 1, 1, 1], [9, 12, 14, 10, 1, 1, 1, 1], [-3, 12, 14, 10, 1, 1, 1, 1]),
        *([8, 12, 14, 10, 1, 1, 1, 1], [2, 12, 14, 1, 1, 1, 1, 1], [1, 1680, 1, 1, 1, 1, 1, 1]),
        *([3, 0, 14, 10, 1, 1, 1, 1], [3, 12, -14, 10, 1, 1, 1, 1], [3, 12, 14, 0, 1, 1, 1, 1]),
        *([4, 12, 14, 10, 0, 1, 1, 1], [4, 12, 14, 5, 2, 1, 1, 1], [4, 12, 14, 10, -1, 1, 1, 1]),
        *([5, 12, 14, 5, 1, 2, 1, 1], [3, -1, 1, 1, 1, 1, 1, 1], [3, 27307, 1, 6, 1, 1, 1, 1]),
    ],
)
def test_dimensions_that_are_not_those_of_one_volume_are_refused(image: Path, dim: list[int]) -> None:
    edit_header(image, dim=dim)
    assert "shape" in reason(image) or "header is damaged" in reason(image)


@pytest.mark.parametrize("sides", [(-1, 14, 10), (2**40, 2**40, 2**40), (40000, 2, 2), (2**62, 4, 1)])
def test_sides_of_a_nifti_2_file_that_nothing_can_hold_are_refused(tmp_path: Path, sides: tuple[int, ...]) -> None:
    path = save(tmp_path / "image.nii", head(), kind=nib.Nifti2Image)
    content = unpacked(path)
    content[16 : 16 + 64] = np.array([3, *sides, 1, 1, 1, 1], "<i8").tobytes()
    path.write_bytes(content)
    assert "shape" in reason(path)


@pytest.mark.parametrize("code", [0, 1, 3, 5, 255, 9999, -1])
def test_a_data_type_that_is_unknown_is_refused(image: Path, code: int) -> None:
    edit_header(image, datatype=code)
    assert "voxels are of type" in reason(image) or "header is damaged" in reason(image)


@pytest.mark.parametrize("dtype", ["c8", "c16", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_colour_images_are_refused(tmp_path: Path, dtype: object) -> None:
    save(tmp_path / "image.nii.gz", np.zeros(SHAPE, dtype))
    assert "not real numbers" in reason(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("code", [1536, 1792, 2048, 2304])  # 128-bit and longer numbers, four-channel colour
def test_numbers_of_more_than_64_bits_are_refused(image: Path, code: int) -> None:
    edit_header(image, datatype=code)
    assert "voxels are of type" in reason(image) or "header is damaged" in reason(image)


@pytest.mark.parametrize("offset", [1, 347, -352, 1e30, np.nan, np.inf, 2**22])
def test_a_data_offset_that_cannot_be_is_refused(image: Path, offset: float) -> None:
    edit_header(image, vox_offset=offset)
    assert "at byte" in reason(image)


def test_an_intercept_that_is_no_number_is_refused(image: Path) -> None:
    edit_header(image, scl_slope=1, scl_inter=np.inf)
    assert "header is damaged" in reason(image)


@pytest.mark.parametrize("garbage", [b"\x01", b"garbage" * 3, b"garbage" * 999])
def test_garbage_behind_the_gzip_stream_is_refused_but_padding_is_not(image: Path, garbage: bytes) -> None:
    content = image.read_bytes()
    image.write_bytes(content + b"\0" * 512)
    assert np.array_equal(read_volume(image).data, head())
    image.write_bytes(content + garbage)
    assert "truncated or damaged" in reason(image)


def test_many_bytes_behind_the_voxels_are_refused_and_a_few_are_not(image: Path) -> None:
    content = bytes(unpacked(image))
    repack(image, content + b"\x07" * 1000)
    assert np.array_equal(read_volume(image).data, head())
    repack(image, content + b"\x07" * 70_000)
    assert "goes on after the voxels" in reason(image)


# values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_up_to_one_percent_of_voxels_that_are_no_numbers_become_0_with_a_warning(tmp_path: Path, value: float) -> None:
    data = np.full((10, 10, 10), 5, np.float32)
    data.flat[:10] = value
    volume = read_volume(save(tmp_path / "image.nii.gz", data))
    assert np.array_equal(volume.data, np.where(np.isfinite(data), data, 0))
    assert "10 NaN or Inf voxels were replaced by 0" in volume.warnings[0]
    data.flat[10] = value
    assert "1.1% of the voxels are NaN or Inf" in reason(save(tmp_path / "image.nii.gz", data))


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_count_as_infinite(tmp_path: Path) -> None:
    data = np.full((10, 10, 10), 5.0)
    data[0, 0, :3] = (1e300, -1e300, 1e308)
    volume = read_volume(save(tmp_path / "image.nii.gz", data))
    assert np.array_equal(volume.data[0, 0, :4], [0, 0, 0, 5])
    assert "3 NaN or Inf voxels" in volume.warnings[0]
    edit_header(tmp_path / "image.nii.gz", scl_slope=3e38, scl_inter=0)
    assert "100.0% of the voxels" in reason(tmp_path / "image.nii.gz")


def test_label_maps_are_whole_numbers_from_0_to_255(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 256, SHAPE)
    for dtype in ("u1", "i2", "f4", "f8"):
        read, geometry = read_labels(save(tmp_path / "seg.nii.gz", labels.astype(dtype)))
        assert read.dtype == np.uint8
        assert np.array_equal(read, labels)
        assert geometry.shape == SHAPE


@pytest.mark.parametrize(("slope", "inter"), [(6.1036086e-05, 2.0), (0.015686275, 0.0), (0.1, 0.0)])
def test_scaled_labels_are_the_whole_numbers_that_they_mean(tmp_path: Path, slope: float, inter: float) -> None:
    labels = np.random.default_rng(0).integers(0, 4, SHAPE)
    path = save(tmp_path / "seg.nii.gz", np.rint((labels - inter) / slope).astype(np.int16))
    edit_header(path, scl_slope=slope, scl_inter=inter)
    assert np.array_equal(read_labels(path)[0], labels)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.5, -1, 256, 1.06, 0.94, -0.06, 255.06, np.nan, np.inf, -np.inf, 1e30, -255])
def test_other_values_are_no_labels(tmp_path: Path, value: float) -> None:
    data = np.ones((20, 20, 20), np.float32)
    data[3, 4, 5] = value
    with pytest.raises(CaseError, match="no labels"):
        read_labels(save(tmp_path / "seg.nii.gz", data))
