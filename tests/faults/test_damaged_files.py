"""Rows 6 to 12: files that are not what they should be."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.case_files import SRI24, edit_header, repack, unpacked, write_image
from tests.faults import anatomy
from tests.faults.bench import Bench, Ended

ALLOWANCE_MB = 64
ALLOWANCE_SECONDS = 1.0
COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def spoil_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def replaced(data: np.ndarray) -> object:
    """A damage that puts other voxels under the file's name."""
    return lambda path: write_image(path, data, SRI24)


def test_06_truncated_gzip(bench: Bench) -> None:
    for keep in (100, 5000, -200, -8, -1):
        bench.spoil("truncated or damaged", lambda path, keep=keep: path.write_bytes(path.read_bytes()[:keep]))
    bench.assert_rejected()


def test_07_flipped_byte_or_wrong_checksum(bench: Bench) -> None:
    for place in (20, 5000, -8, -6, -1):
        bench.spoil("truncated or damaged", lambda path, place=place: spoil_byte(path, place))

    def stored(path: Path) -> None:  # without compression, so that only the checksum can tell
        repack(path, bytes(unpacked(path)), level=0)
        spoil_byte(path, 20000)

    bench.spoil("truncated or damaged", stored)
    bench.assert_rejected()


def test_08_something_else_under_the_name_of_an_image(bench: Bench) -> None:
    page = b"<!DOCTYPE html><html>Log in to download</html>"
    bench.spoil("ends in .gz: rename it to .nii", lambda path: path.write_bytes(unpacked(path)))
    bench.spoil(
        "gzip-compressed although", lambda path: path.write_bytes(gzip.compress(path.read_bytes())), ending=".nii"
    )
    bench.spoil("a web page", lambda path: path.write_bytes(page))
    bench.spoil("a web page", lambda path: path.write_bytes(gzip.compress(page)))
    bench.spoil("the file is empty", lambda path: path.write_bytes(b""))
    bench.spoil("not a NIfTI file", lambda path: path.write_bytes(gzip.compress(b"")))
    bench.spoil("one half of a pair", lambda path: edit_header(path, magic=b"ni1"))
    bench.assert_rejected()


def expect_no_more_work(runs: list[Ended], undisturbed: Ended) -> None:
    """Neither time nor memory went into what was refused."""
    for ended in runs:
        assert ended.peak_mb < undisturbed.peak_mb + ALLOWANCE_MB
        assert ended.cpu_seconds < 1.5 * undisturbed.cpu_seconds + ALLOWANCE_SECONDS


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_09_header_that_claims_32767_cubed(bench: Bench, undisturbed: tuple[bytes, Ended], ending: str) -> None:
    huge = [3, 32767, 32767, 32767, 1, 1, 1, 1]
    bench.spoil("its header announces 35181150961663 voxels", lambda path: edit_header(path, dim=huge), ending=ending)
    expect_no_more_work(bench.assert_rejected(), undisturbed[1])


def test_10_gzip_bomb(bench: Bench, undisturbed: tuple[bytes, Ended]) -> None:
    def bomb(path: Path) -> None:
        path.write_bytes(gzip.compress(bytes(unpacked(path))) + gzip.compress(bytes(2**26), 9) * 32)

    bench.spoil("goes on after the voxels", bomb)  # 2 GiB from 2 MB
    expect_no_more_work(bench.assert_rejected(), undisturbed[1])


def test_11_dimensions_or_type_that_cannot_be(bench: Bench) -> None:
    for dim in ([3, 0, 36, 30], [3, 32, -36, 30], [0, 32, 36, 30], [-3, 32, 36, 30], [9, 32, 36, 30], [2, 32, 1080, 1]):
        bench.spoil("its shape is (", lambda path, dim=dim: edit_header(path, dim=[*dim, 1, 1, 1, 1]))
    for code in (77, -1):
        bench.spoil("its header is damaged", lambda path, code=code: edit_header(path, datatype=code))
    for code in (0, 1):
        bench.spoil("not real numbers", lambda path, code=code: edit_header(path, datatype=code))
    bench.assert_rejected()


def test_12_more_than_three_dimensions(bench: Bench) -> None:
    bench.spoil("more than one volume", replaced(np.stack([anatomy.image("t2w")] * 2, axis=-1)))
    bench.spoil("not real numbers", replaced(anatomy.image("t2w").astype(np.complex64)))
    bench.spoil("not real numbers", replaced(np.zeros(anatomy.SHAPE, COLOUR)))
    bench.assert_rejected()


def test_12_single_volume_in_four_dimensions(bench: Bench) -> None:
    case_id = "BraTS-GLI-50000-000"
    paths = bench.add(case_id, image=lambda i: anatomy.image(i)[..., np.newaxis])
    assert nib.load(paths["t1n"]).ndim == 4
    ended = bench.run()
    assert sum("a single volume in 4 dimensions" in line for line in ended.lines) == len(paths)
    bench.assert_holds(case_id)
    assert (bench.output / f"{case_id}.nii.gz").read_bytes() == bench.reference
