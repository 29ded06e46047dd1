"""Reading verifies every byte: what is whole reads as in nibabel, what is not is refused."""

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brats_infer.errors import CaseError
from brats_infer.files.nifti import (
    read_volume,
)
from tests.case_files import SHAPE, SRI24, edit_header, head, raw_header, repack, unpacked
from tests.case_files import write_image as save
from tests.files.places import OBLIQUE, reason


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


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.uint32])
def test_background_of_an_image_that_was_stored_in_steps_is_0(tmp_path: Path, dtype: type[np.integer[Any]]) -> None:
    """As nibabel and others store z-scores in a file of whole numbers: 0 comes back as a part of a step."""
    rng = np.random.default_rng(0)
    values = np.where(np.arange(20)[:, None, None] < 8, 0.0, rng.normal(0.5, 1, (20, 9, 8)))
    file = nib.Nifti1Image(values, np.eye(4))
    file.set_data_dtype(dtype)
    nib.save(file, tmp_path / "image.nii.gz")
    stored = nib.load(tmp_path / "image.nii.gz")
    assert (stored.get_fdata()[0] != 0).any(), "else there is nothing to do"
    found = read_volume(tmp_path / "image.nii.gz").data
    assert not found[:8].any()
    step = float(stored.dataobj.slope)
    np.testing.assert_allclose(found, values, rtol=0, atol=max(1.01 * step, 1e-6))


def test_an_intercept_that_takes_away_most_of_a_number_leaves_the_rest_exact(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    file = nib.Nifti1Image((values + 2**31).astype(np.uint32), np.eye(4))
    nib.save(file, tmp_path / "image.nii.gz")
    edit_header(tmp_path / "image.nii.gz", scl_slope=1, scl_inter=-(2**31))
    assert np.array_equal(read_volume(tmp_path / "image.nii.gz").data, values)


@pytest.mark.parametrize(("slope", "intercept"), [(2.5, -7.0), (1.0, 3.0), (-1.0, 0.0), (0.0, 9.0), (np.nan, np.nan)])
def test_slope_and_intercept_scale_as_in_nibabel(image: Path, slope: float, intercept: float) -> None:
    edit_header(image, scl_slope=slope, scl_inter=intercept)
    expected = nib.load(image).get_fdata()
    expected[np.abs(expected) <= abs(slope) / 2] = 0  # what 0 becomes when it is stored in such steps
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


def test_name_may_be_in_capitals(image: Path) -> None:
    expected = read_volume(image).data
    np.testing.assert_array_equal(read_volume(image.rename(image.with_name("IMAGE.NII.GZ"))).data, expected)


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
        ("image.nii.gz", gzip.compress(gzip.compress(b"\0" * 400, mtime=0), mtime=0), "twice: unpack it once"),
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
    assert reason(tmp_path / "plain.nii.gz").endswith(": rename it to .nii")
    assert reason(tmp_path / "packed.nii").endswith(": rename it to .nii.gz")


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
