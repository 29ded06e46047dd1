"""Reading that verifies every byte, writing that is whole or not at all; against nibabel, SimpleITK and raw bytes."""

import errno
import gzip
import os
import resource
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_infer.errors import CaseError, OutputError
from brats_infer.geometry import Geometry
from brats_infer.volume import (
    read_geometry,
    read_header,
    read_images,
    read_labels,
    read_probabilities,
    read_volume,
    write_image,
    write_labels,
    write_probabilities,
)
from tests.case_files import SHAPE, SRI24, edit_header, head, raw_header, repack, unpacked, write_case
from tests.case_files import write_image as save

OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([0.9, 1.1, 2.0]), [-80, 90, -70])
RAW_GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"),
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "image.nii.gz", head())


def reason(path: Path) -> str:
    """Why the file is refused: one line that names it."""
    with pytest.raises(CaseError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


# reading what is whole


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_every_real_type_byte_order_and_version_reads_as_in_nibabel(
    tmp_path: Path, dtype: str, order: str, kind: type[nib.Nifti1Image], ending: str
) -> None:
    data = np.abs(head()) % 100 if dtype[0] == "u" else head() % 100 - 50
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    nib.save(kind(data.astype(dtype), OBLIQUE, header), tmp_path / f"image{ending}")
    volume = read_volume(tmp_path / f"image{ending}")
    expected = nib.load(tmp_path / f"image{ending}")
    assert volume.data.dtype == (dtype if dtype in ("u1", "i1", "u2", "i2") else np.float32), "exact, and as small"
    assert volume.data.dtype.isnative
    assert np.array_equal(volume.data, expected.get_fdata(dtype=np.float32))
    assert np.allclose(volume.geometry.affine, expected.affine, atol=1e-6)
    assert volume.geometry.shape == SHAPE
    assert volume.warnings == ()


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -7.0), (1.0, 3.0), (-1.0, 0.0), (0.0, 9.0), (np.nan, np.nan)])
def test_slope_and_intercept_scale_as_in_nibabel(image: Path, slope: float, intercept: float) -> None:
    edit_header(image, scl_slope=slope, scl_inter=intercept)
    expected = nib.load(image).get_fdata()
    assert np.allclose(read_volume(image).data, expected, rtol=1e-6, atol=1e-4)


def test_unset_data_offset_means_right_behind_the_header(image: Path) -> None:
    expected = read_volume(image).data
    edit_header(image, vox_offset=0)
    assert np.array_equal(read_volume(image).data, expected)


def test_header_extensions_are_stepped_over(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head(), SRI24)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a patient's name" * 9))
    nib.save(image, tmp_path / "image.nii.gz")
    assert float(raw_header(tmp_path / "image.nii.gz")["vox_offset"]) > 352
    assert np.array_equal(read_volume(tmp_path / "image.nii.gz").data, head())


@pytest.mark.parametrize("cut", [1, 200, 352, 400, 2000])
def test_gzip_in_several_members_is_one_file(image: Path, cut: int) -> None:
    content = bytes(unpacked(image))
    image.write_bytes(gzip.compress(content[:cut]) + gzip.compress(content[cut:]))
    assert np.array_equal(read_volume(image).data, head())


@pytest.mark.parametrize("dimensions", [4, 5, 7])
def test_a_single_volume_in_more_dimensions_is_squeezed_with_a_warning(tmp_path: Path, dimensions: int) -> None:
    save(tmp_path / "image.nii.gz", head().reshape(*SHAPE, *[1] * (dimensions - 3)))
    volume = read_volume(tmp_path / "image.nii.gz")
    assert np.array_equal(volume.data, head())
    assert f"a single volume in {dimensions} dimensions" in volume.warnings[0]


def test_real_cases_read_as_in_nibabel(shared: Path) -> None:
    for name in ("gli/images/BraTS-GLI-90009-000", "ssa/images/BraTS-SSA-00002-000"):
        folder = shared / "cases" / name
        path = folder / f"{folder.name}-t1c.nii.gz"
        volume, expected = read_volume(path), nib.load(path)
        assert np.array_equal(volume.data, expected.get_fdata(dtype=np.float32))
        assert np.array_equal(volume.geometry.affine, expected.affine)


# damaged files


def test_a_truncated_file_is_refused_wherever_it_ends(image: Path, tmp_path: Path) -> None:
    content = image.read_bytes()
    for size in [*range(1, 60), *range(60, len(content) - 12, 97), *range(len(content) - 12, len(content))]:
        (tmp_path / "cut.nii.gz").write_bytes(content[:size])
        hint = "truncated or damaged, copy it again" if size > 1 else "not a NIfTI file"
        assert hint in reason(tmp_path / "cut.nii.gz")


@pytest.mark.parametrize(
    ("sizes", "hint"),
    [
        ((1, 200), "not a NIfTI file"),
        ((347,), "its header is damaged"),
        ((348, 351, 352, 353, 2000), "truncated, copy it again"),
    ],
)
def test_a_truncated_uncompressed_file_is_refused(
    image: Path, tmp_path: Path, sizes: tuple[int, ...], hint: str
) -> None:
    for size in sizes:
        (tmp_path / "cut.nii").write_bytes(bytes(unpacked(image)[:size]))
        assert hint in reason(tmp_path / "cut.nii")


def test_a_flipped_byte_that_nibabel_loads_silently_is_refused(image: Path) -> None:
    repack(image, bytes(unpacked(image)), level=0)  # stored as it is: only the checksum can tell
    content = bytearray(image.read_bytes())
    content[1500] ^= 0x10
    image.write_bytes(content)
    assert not np.array_equal(nib.load(image).get_fdata(), head())
    assert "truncated or damaged" in reason(image)


@pytest.mark.parametrize("place", range(-8, 0))
def test_a_flipped_byte_in_the_gzip_trailer_is_refused(image: Path, place: int) -> None:
    content = bytearray(image.read_bytes())
    content[place] ^= 0x01
    image.write_bytes(content)
    assert np.array_equal(nib.load(image).get_fdata(), head())
    assert "truncated or damaged" in reason(image)


@pytest.mark.parametrize("level", [0, 6])
def test_no_flipped_bit_ever_changes_the_voxels_unnoticed(image: Path, tmp_path: Path, level: int) -> None:
    original = repack(image, bytes(unpacked(image)), level).read_bytes()
    rng = np.random.default_rng(level)
    for place in [*range(40), *rng.integers(40, len(original), 260)]:
        damaged = bytearray(original)
        damaged[place] ^= 1 << rng.integers(8)
        (tmp_path / "flipped.nii.gz").write_bytes(damaged)
        try:
            volume = read_volume(tmp_path / "flipped.nii.gz")
        except CaseError:
            continue
        # such as in the time stamp, which no checksum covers
        assert np.array_equal(volume.data, head())


@given(st.data())
@settings(max_examples=200)
def test_a_header_of_any_bytes_reads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = save(tmp_path_factory.getbasetemp() / "fuzz.nii", head((4, 5, 3)))
    content = unpacked(path)
    fields = nib.nifti1.header_dtype.fields or {}
    names = data.draw(st.lists(st.sampled_from(sorted(set(fields) - {"magic"})), min_size=1, max_size=3, unique=True))
    for name in names:
        dtype, offset = fields[name][:2]
        content[offset : offset + dtype.itemsize] = data.draw(
            st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize)
        )
    path.write_bytes(content)
    try:
        volume = read_volume(path)
    except CaseError:
        reason(path)
        return
    assert np.isfinite(volume.data).all()
    assert np.isfinite(volume.geometry.affine).all()
    assert volume.data.shape == volume.geometry.shape == (4, 5, 3)


def test_a_short_nifti_2_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.nii").write_bytes(b"\x1c\x02\0\0n+2\0\r\n\x1a\n" + b"\0" * 400)
    assert "its header is damaged" in reason(tmp_path / "image.nii")


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("image.nii.gz", b"", "is empty"),
        ("image.nii", b"", "is empty"),
        ("image.nii.gz", b"<!DOCTYPE html><html>not found</html>", "a web page"),
        ("image.nii", b"\n <html>not found</html>", "a web page"),
        ("image.nii.gz", gzip.compress(b"<html>not found</html>", mtime=0), "a web page"),
        ("image.nii.gz", b"PK\x03\x04 a zip", "not a NIfTI file"),
        ("image.nii", b"\0" * 400, "not a NIfTI file"),
        ("image.nii.gz", gzip.compress(b"", mtime=0), "not a NIfTI file"),
        ("image.nii.gz", b"\x1f\x8b\x08", "truncated"),
    ],
)
def test_a_file_that_is_something_else_is_refused_with_a_hint(
    tmp_path: Path, name: str, content: bytes, hint: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert hint in reason(tmp_path / name)


def test_a_name_that_contradicts_the_compression_is_refused_with_a_hint(image: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.nii.gz").write_bytes(unpacked(image))
    (tmp_path / "packed.nii").write_bytes(image.read_bytes())
    assert "rename it to .nii" in reason(tmp_path / "plain.nii.gz")
    assert "rename it to .nii.gz" in reason(tmp_path / "packed.nii")


def test_half_of_a_header_and_image_pair_is_refused_with_a_hint(image: Path) -> None:
    edit_header(image, magic=b"ni1")
    assert "one half of a pair" in reason(image)


def test_files_that_cannot_be_opened_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.nii").symlink_to("nowhere")
    (tmp_path / "circle.nii").symlink_to("circle.nii")
    (tmp_path / "folder.nii").mkdir()
    os.mkfifo(tmp_path / "pipe.nii")
    assert "No such file" in reason(tmp_path / "link.nii")
    for name in ("circle.nii", "folder.nii", "pipe.nii"):  # the pipe: at once, without waiting for a writer
        reason(tmp_path / name)


# headers that lie


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
    assert "type" in reason(image) or "header is damaged" in reason(image)


@pytest.mark.parametrize("dtype", ["c8", "c16", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_colour_images_are_refused(tmp_path: Path, dtype: object) -> None:
    save(tmp_path / "image.nii.gz", np.zeros(SHAPE, dtype))
    assert "not real numbers" in reason(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("code", [1536, 1792, 2048, 2304])  # 128-bit and longer numbers, four-channel colour
def test_numbers_of_more_than_64_bits_are_refused(image: Path, code: int) -> None:
    edit_header(image, datatype=code)
    assert "type" in reason(image) or "header is damaged" in reason(image)


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.5, -1, 256, 1.0001, np.nan, np.inf, -np.inf, 1e30, -255])
def test_other_values_are_no_labels(tmp_path: Path, value: float) -> None:
    data = np.ones((20, 20, 20), np.float32)
    data[3, 4, 5] = value
    with pytest.raises(CaseError, match="no labels"):
        read_labels(save(tmp_path / "seg.nii.gz", data))


# grids


def test_qform_and_sform_that_differ_use_the_sform_with_a_warning_and_come_back_as_they_were(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head(), SRI24)
    image.set_sform(OBLIQUE, 2)
    image.set_qform(SRI24, 1)
    nib.save(image, tmp_path / "image.nii.gz")
    volume = read_volume(tmp_path / "image.nii.gz")
    assert np.allclose(volume.geometry.affine, OBLIQUE, atol=1e-5)
    assert "qform and sform differ" in volume.warnings[0]
    write_labels(tmp_path / "seg.nii.gz", np.zeros(SHAPE, np.uint8), volume.geometry)
    assert_same_place(tmp_path / "image.nii.gz", tmp_path / "seg.nii.gz")


def assert_same_place(image: Path, labels: Path) -> None:
    """Every header field that places the grid, raw, and what the two usual readers make of it."""
    before, after = raw_header(image), raw_header(labels)
    for name in RAW_GEOMETRY:
        assert np.array_equal(before[name], after[name], equal_nan=True), name
    assert np.array_equal(before["pixdim"][:4], after["pixdim"][:4])
    assert np.array_equal(before["dim"][1:4], after["dim"][1:4])
    assert np.array_equal(nib.load(image).affine, nib.load(labels).affine)


@pytest.mark.parametrize(
    ("codes", "fields"),
    [
        ((1, 1), {}),
        ((1, 0), {}),
        ((0, 1), {}),
        ((0, 0), {}),
        ((2, 4), {"xyzt_units": 10}),
        ((1, 0), {"pixdim": [0, 1, 2, 3, 0, 0, 0, 0]}),  # qfac 0 means 1
        ((1, 0), {"pixdim": [-1, 1, 2, 3, 0, 0, 0, 0]}),
        ((0, 3), {"pixdim": [1, 9, 9, 9, 0, 0, 0, 0]}),  # zooms that contradict the affine
        ((1, 0), {"quatern_b": 0.5, "quatern_c": 0.5, "quatern_d": 0.5}),
    ],
)
def test_the_grid_is_read_as_in_nibabel_and_written_back_field_by_field(
    tmp_path: Path, codes: tuple[int, int], fields: dict[str, object]
) -> None:
    path = save(tmp_path / "image.nii.gz", head(), OBLIQUE)
    edit_header(path, qform_code=codes[0], sform_code=codes[1], **fields)  # type: ignore[arg-type]
    geometry = read_geometry(path)
    assert np.allclose(geometry.affine, nib.load(path).affine, atol=1e-5)
    write_labels(tmp_path / "seg.nii.gz", np.ones(SHAPE, np.uint8), geometry)
    assert_same_place(path, tmp_path / "seg.nii.gz")


def test_a_grid_without_qform_and_sform_warns_and_says_which_axes_were_taken(image: Path) -> None:
    edit_header(image, qform_code=0, sform_code=0)
    volume = read_volume(image)
    axes = "".join(nib.aff2axcodes(nib.load(image).affine))
    assert f"has neither qform nor sform: its axes were taken as {axes}" in volume.warnings[0]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_grids_of_other_versions_and_byte_orders_are_written_as_the_same_place(
    tmp_path: Path, kind: type[nib.Nifti1Image], order: str
) -> None:
    nib.save(kind(head(), OBLIQUE, kind.header_class(endianness=order)), tmp_path / "image.nii.gz")
    write_labels(tmp_path / "seg.nii.gz", np.ones(SHAPE, np.uint8), read_geometry(tmp_path / "image.nii.gz"))
    assert raw_header(tmp_path / "seg.nii.gz")["sizeof_hdr"] == 348
    assert np.allclose(nib.load(tmp_path / "seg.nii.gz").affine, OBLIQUE, atol=1e-5)


def test_spacing_and_voxel_volume_come_from_the_affine_and_not_from_pixdim(tmp_path: Path) -> None:
    path = save(tmp_path / "image.nii.gz", head(), OBLIQUE)
    edit_header(path, pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    geometry = read_geometry(path)
    assert np.allclose(geometry.spacing, [0.9, 1.1, 2.0], atol=1e-5)
    assert geometry.voxel_mm3 == pytest.approx(0.9 * 1.1 * 2.0, rel=1e-5)


SHEARED = np.array([[1, 0.9, 0, 0], [0, 0.5, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])


def test_the_volume_of_a_sheared_voxel_is_that_of_the_parallelepiped() -> None:
    assert Geometry.of_affine(SHAPE, SHEARED).voxel_mm3 == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([np.nan, 0, 0, 0], "not finite or is singular"),
        ([1, 0, 0, np.nan], "not finite or is singular"),
        ([np.inf, 0, 0, 0], "not finite or is singular"),
        ([0, 0, 0, 0], "not finite or is singular"),
        ([0, 0, 2, 5], "not finite or is singular"),
        ([0, 1e-7, 2, 5], "not finite or is singular"),
        ([3e38, 3e38, 0, 0], "not finite or is singular"),
        ([1000, 0, 0, 0], "in millimetres"),
        ([0.001, 0, 0, 0], "in millimetres"),
    ],
)
def test_an_affine_that_places_nothing_is_refused(image: Path, row: list[float], fault: str) -> None:
    edit_header(image, srow_x=row, srow_y=[0, 1, 0, 0], srow_z=[0, 0, 2, 0])
    assert fault in reason(image)


@pytest.mark.parametrize(
    "fields",
    [
        *({"quatern_b": 5}, {"quatern_b": np.nan}, {"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]}, {"qoffset_x": np.nan}),
        *({"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]}, {"pixdim": [1, np.inf, 1, 1, 0, 0, 0, 0]}),
    ],
)
def test_a_qform_that_makes_no_sense_is_refused_where_there_is_no_sform(image: Path, fields: dict[str, object]) -> None:
    edit_header(image, sform_code=0, **fields)  # type: ignore[arg-type]
    assert "not finite or is singular" in reason(image)
    edit_header(image, sform_code=1)
    assert "qform and sform differ" in read_volume(image).warnings[0]


def test_modalities_of_one_grid_are_read_in_order(tmp_path: Path) -> None:
    paths = write_case(tmp_path)
    volumes = read_images(paths.values())
    assert list(volumes) == list(paths.values())
    assert all(np.array_equal(v.data, head(seed=i)) for i, v in enumerate(volumes.values()))


def test_modalities_whose_shapes_differ_are_refused(tmp_path: Path) -> None:
    paths = write_case(tmp_path)
    save(paths["t2w"], head((12, 14, 11)))
    with pytest.raises(
        CaseError, match=r"t2w.nii.gz: shape \(12, 14, 11\) differs from \(12, 14, 10\) of .*t1n.nii.gz"
    ):
        read_images(paths.values())


@pytest.mark.parametrize(("shift", "accepted"), [(0.0, True), (5e-4, True), (2e-3, False), (0.7, False)])
@pytest.mark.parametrize("place", [(0, 0), (1, 3)])
def test_modalities_whose_affines_differ_by_more_than_a_thousandth_are_refused(
    tmp_path: Path, shift: float, accepted: bool, place: tuple[int, int]
) -> None:
    paths = write_case(tmp_path)
    moved = SRI24.copy()
    moved[place] += shift
    save(paths["t2f"], head(), moved)
    if accepted:
        assert len(read_images(paths.values())) == 4
    else:
        with pytest.raises(CaseError, match=r"t2f.nii.gz: its affine differs by"):
            read_images(paths.values())


# writing


def random_labels(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 4, shape).astype(np.uint8)


@pytest.mark.parametrize("affine", [SRI24, np.eye(4), OBLIQUE], ids=["LPS", "RAS", "oblique"])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_a_written_label_map_is_the_same_in_nibabel_simpleitk_and_the_raw_bytes(
    tmp_path: Path, affine: np.ndarray, layout: str
) -> None:
    image, out, labels = save(tmp_path / "image.nii.gz", head(), affine), tmp_path / "seg.nii.gz", random_labels()
    write_labels(out, np.asarray(labels, order=layout), read_geometry(image))
    assert_same_place(image, out)
    by_nibabel, by_itk = nib.load(out), sitk.ReadImage(str(out))
    assert by_nibabel.get_data_dtype() == np.uint8
    assert by_itk.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(np.asarray(by_nibabel.dataobj), labels)
    assert np.array_equal(sitk.GetArrayFromImage(by_itk).T, labels)
    assert unpacked(out)[352:] == labels.tobytes(order="F")
    for index in ((0, 0, 0), (11, 0, 3), (5, 13, 9)):
        to_left_posterior = np.diag([-1, -1, 1]) @ nib.affines.apply_affine(by_nibabel.affine, index)
        assert np.allclose(by_itk.TransformIndexToPhysicalPoint(index), to_left_posterior, atol=1e-3)
        assert np.allclose(
            by_itk.TransformIndexToPhysicalPoint(index),
            sitk.ReadImage(str(image)).TransformIndexToPhysicalPoint(index),
            atol=1e-5,
        )


def test_nothing_of_the_inputs_header_but_the_place_is_written(tmp_path: Path) -> None:
    image = nib.Nifti1Image(head().astype(np.float32), SRI24)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a patient's name"))
    for field in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[field] = b"patient"
    image.header["cal_max"], image.header["toffset"], image.header["intent_code"] = 9, 7, 1001
    nib.save(image, tmp_path / "image.nii.gz")
    edit_header(tmp_path / "image.nii.gz", scl_slope=2, scl_inter=1)
    write_labels(tmp_path / "seg.nii.gz", random_labels(), read_geometry(tmp_path / "image.nii.gz"))
    header, content = raw_header(tmp_path / "seg.nii.gz"), bytes(unpacked(tmp_path / "seg.nii.gz"))
    assert b"patient" not in content
    assert content[348:352] == bytes(4)  # no extensions
    assert len(content) == 352 + int(np.prod(SHAPE))
    assert (header["scl_slope"], header["scl_inter"]) == (0, 0)  # unset
    assert (header["cal_max"], header["toffset"], header["intent_code"]) == (0, 0, 0)
    assert (header["datatype"], header["bitpix"], header["vox_offset"]) == (2, 8, 352)
    assert list(header["dim"]) == [3, *SHAPE, 1, 1, 1, 1]
    assert read_header(tmp_path / "seg.nii.gz").get_slope_inter() == (None, None)


def test_the_gzip_stream_is_sound_and_carries_no_name_or_time(tmp_path: Path) -> None:
    write_labels(tmp_path / "seg.nii.gz", random_labels(), Geometry.of_affine(SHAPE, SRI24))
    content = (tmp_path / "seg.nii.gz").read_bytes()
    assert content[3] == 0  # no optional fields, so no file name
    assert content[4:8] == bytes(4)  # no time stamp
    assert len(gzip.decompress(content)) == 352 + int(np.prod(SHAPE))


def test_same_labels_same_bytes(tmp_path: Path) -> None:
    geometry = Geometry.of_affine(SHAPE, OBLIQUE)
    write_labels(tmp_path / "a.nii.gz", random_labels(), geometry)
    time.sleep(1.1)  # a time stamp would differ
    write_labels(tmp_path / "b.nii.gz", np.asfortranarray(random_labels()), geometry)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (33, 2, 7)])
def test_what_is_written_reads_back(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    geometry = Geometry.of_affine(shape, OBLIQUE)
    write_labels(tmp_path / "seg.nii.gz", random_labels(shape), geometry)
    labels, again = read_labels(tmp_path / "seg.nii.gz")
    assert np.array_equal(labels, random_labels(shape))
    assert again.shape == shape
    assert np.allclose(again.affine, OBLIQUE, atol=1e-5)
    assert all(np.array_equal(again.fields[name], value) for name, value in geometry.fields.items())


def test_probabilities_are_written_as_one_4_d_image(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).random((3, *SHAPE)).astype(np.float32)
    write_probabilities(tmp_path / "p.nii.gz", probabilities, Geometry.of_affine(SHAPE, SRI24))
    image = nib.load(tmp_path / "p.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(np.moveaxis(image.get_fdata(), -1, 0), probabilities, atol=1 / 510 + 1e-6)
    np.testing.assert_allclose(read_probabilities(tmp_path / "p.nii.gz")[0], probabilities, atol=1 / 510 + 1e-6)
    assert np.allclose(image.affine, SRI24)


def test_images_are_written_in_their_own_type(tmp_path: Path) -> None:
    write_image(tmp_path / "i.nii.gz", head(), Geometry.of_affine(SHAPE, SRI24))
    image = nib.load(tmp_path / "i.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(image.dataobj), head())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_noise(path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 40)).astype(np.uint8)  # does not compress
    write_labels(path, noise, Geometry.of_affine((40, 40, 40), SRI24))


def test_a_full_disk_leaves_no_file_and_the_older_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.nii.gz").write_bytes(b"older")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # a real write that stops half-way
    try:
        for name in ("new.nii.gz", "old.nii.gz"):
            with pytest.raises(OutputError, match=f"{name}: cannot be written"):
                write_noise(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["old.nii.gz"]
    assert (tmp_path / "old.nii.gz").read_bytes() == b"older"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_at_the_last_step_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"No space left on device.*free some space"):
        write_noise(tmp_path / "new.nii.gz")
    assert names(tmp_path) == []


def test_an_interruption_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_noise(tmp_path / "new.nii.gz")
    assert names(tmp_path) == []


def test_a_missing_output_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"seg.nii.gz: cannot be written \(No such file or directory\)"):
        write_noise(tmp_path / "absent" / "seg.nii.gz")


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_noise(tmp_path / "seg.nii.gz")
    finally:
        os.umask(before)
    assert (tmp_path / "seg.nii.gz").stat().st_mode & 0o777 == 0o644
