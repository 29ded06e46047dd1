"""Writing is whole or not at all; against nibabel, SimpleITK and raw bytes."""

import errno
import gzip
import os
import resource
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer.errors import CaseError, OutputError
from brats_infer.files.geometry import Geometry
from brats_infer.files.labels import read_labels, read_probabilities
from brats_infer.files.nifti import read_geometry, read_header, write_image, write_labels, write_probabilities
from tests.case_files import SHAPE, SRI24, edit_header, head, raw_header, unpacked
from tests.case_files import write_image as save
from tests.files.places import OBLIQUE, assert_same_place


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


@pytest.mark.parametrize(
    "fields",
    [
        *({"vox_offset": offset} for offset in (np.nan, np.inf, -5, 300, 1e30)),
        *({"dim": [4, *SHAPE, regions, 1, 1, 1]} for regions in (-1, 0, 4, 32767)),
        {"dim": [3, *SHAPE, 1, 1, 1, 1]},
        {"datatype": 4},
        *({"scl_slope": slope} for slope in (0, 1, 1 / 254, np.nan)),
    ],
)
def test_probabilities_with_a_header_that_cannot_be_are_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = tmp_path / "p.nii.gz"
    write_probabilities(path, np.zeros((3, *SHAPE), np.float32), Geometry.of_affine(SHAPE, SRI24))
    edit_header(path, vox_offset=0)  # unset
    read_probabilities(path)
    edit_header(path, **fields)
    with pytest.raises(CaseError, match=r"p\.nii\.gz: "):
        read_probabilities(path)


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
