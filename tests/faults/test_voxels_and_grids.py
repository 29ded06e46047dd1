"""Rows 13 to 22: what the voxels hold, and where they lie."""

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel import orientations as nio
from numpy.typing import NDArray

from brats_infer.files.labels import read_labels
from tests.case_files import SRI24, edit_header, raw_header, write_image
from tests.faults import anatomy
from tests.faults.bench import Bench, Ended

OTHER = "BraTS-GLI-50000-000"


def rewrite(change: Callable[[NDArray[np.int16]], NDArray[np.generic]]) -> Callable[[Path], object]:
    """A damage to a file's voxels."""
    return lambda path: write_image(path, change(np.asarray(nib.load(path).dataobj)), SRI24)


def poison(share: float, value: float) -> Callable[[NDArray[np.int16]], NDArray[np.float32]]:
    def change(data: NDArray[np.int16]) -> NDArray[np.float32]:
        out = data.astype(np.float32)
        out.flat[: round(share * out.size)] = value  # a corner of the background
        return out

    return change


def accepts(bench: Bench, *warnings: str) -> Ended:
    """The run writes everything, with these warnings."""
    ended = bench.run()
    bench.assert_holds(OTHER)
    for warning in warnings:
        assert any(line.startswith("warning: ") and warning in line for line in ended.lines), ended.stderr
    return ended


def test_13_voxels_that_are_no_numbers(bench: Bench) -> None:
    for share, value in ((0.02, np.nan), (0.011, np.inf), (1.0, -np.inf)):
        bench.spoil("of the voxels are NaN or Inf", rewrite(poison(share, value)))
    bench.assert_rejected()


def test_13_a_few_voxels_that_are_no_numbers(bench: Bench) -> None:
    for i, path in enumerate(bench.add(OTHER).values()):
        rewrite(poison(0.009, (np.nan, np.inf)[i % 2]))(path)
    accepts(bench, f"{OTHER}-t2w.nii.gz: 311 NaN or Inf voxels were replaced by 0")
    assert (bench.output / f"{OTHER}.nii.gz").read_bytes() == bench.reference


def test_14_modality_all_zero(bench: Bench) -> None:
    for modality in anatomy.MODALITIES:
        bench.spoil("every voxel is 0", rewrite(np.zeros_like), modality)
    bench.assert_rejected()


def test_15_constant_image(bench: Bench) -> None:
    bench.spoil("has the value 7", rewrite(lambda data: np.full_like(data, 7)))
    bench.spoil("has the value 7", rewrite(lambda data: np.where(data, 7, 0).astype(np.int16)))
    bench.assert_rejected()


def test_16_shapes_that_differ(bench: Bench) -> None:
    bench.spoil("is not (32, 36, 30) of", rewrite(lambda data: data[:-1]))
    bench.spoil("is not (32, 36, 30) of", rewrite(lambda data: data.transpose(2, 1, 0)))
    bench.assert_rejected()


def test_17_affines_that_differ(bench: Bench) -> None:
    for place, by in (((0, 3), 0.2), ((2, 2), 0.01), ((0, 0), 2.0)):
        affine = SRI24.copy()
        affine[place] += by
        bench.spoil("affine differs", lambda path, affine=affine: write_image(path, anatomy.image("t2w"), affine))
    bench.assert_rejected()


def test_18_qform_and_sform_that_differ(bench: Bench) -> None:
    fields = {"qoffset_x": 40.0, "qform_code": 3, "sform_code": 4}
    paths = [edit_header(path, **fields) for path in bench.add(OTHER).values()]
    accepts(bench, "qform and sform differ: the sform was used")
    assert np.array_equal(read_labels(bench.output / f"{OTHER}.nii.gz")[0], anatomy.truth())
    ours, theirs = raw_header(bench.output / f"{OTHER}.nii.gz"), raw_header(paths[0])
    for name in (*fields, "qoffset_y", "quatern_d", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_19_affine_that_places_nothing(bench: Bench) -> None:
    for row in ([np.nan, 0, 0, 0], [0, 0, 0, 0], [0, -1, 0, 0], [np.inf, 0, 0, 0]):
        bench.spoil("affine is not finite or is singular", lambda path, row=row: edit_header(path, srow_x=row))
    bench.spoil("means voxels of 1e+03", lambda path: edit_header(path, srow_x=[-1000, 0, 0, 0]))
    bench.assert_rejected()


def test_20_any_axis_order_and_flip(bench: Bench) -> None:
    codes = [
        "".join(sides) for order in itertools.permutations(("RL", "AP", "SI")) for sides in itertools.product(*order)
    ]
    turned = {}
    for i, code in enumerate(codes):
        case_id = f"BraTS-GLI-20000-{i:03}"
        for path in bench.add(case_id).values():
            image = nib.load(path)
            turn = nio.ornt_transform(nio.io_orientation(image.affine), nio.axcodes2ornt(code))
            image.as_reoriented(turn).to_filename(path)
        turned[case_id] = (path, code)
    bench.run()
    bench.assert_holds(*turned)
    for case_id, (path, code) in turned.items():
        labels, image = nib.load(bench.output / f"{case_id}.nii.gz"), nib.load(path)
        assert "".join(nib.aff2axcodes(labels.affine)) == code
        np.testing.assert_array_equal(labels.affine, image.affine)
        back = nio.ornt_transform(nio.io_orientation(labels.affine), nio.io_orientation(SRI24))
        np.testing.assert_array_equal(np.asarray(labels.as_reoriented(back).dataobj), anatomy.truth())


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 3.0), (0.7, 0.7, 2.0), (0.5, 0.5, 0.5)])
def test_21_voxels_that_are_not_1_mm(bench: Bench, spacing: tuple[float, float, float]) -> None:
    """With a pixdim of 1 mm, which is not asked: the affine says how large voxels are."""
    at = [np.arange(0, n - 1, mm).round().astype(int) for n, mm in zip(anatomy.SHAPE, spacing, strict=True)]
    sampled = np.ix_(*at)
    affine = SRI24 @ np.diag([*spacing, 1])
    for path in bench.add(OTHER, image=lambda i: anatomy.image(i)[sampled], affine=affine).values():
        edit_header(path, pixdim=[1, 1, 1, 1, 0, 0, 0, 0], qform_code=0)
        assert nib.load(path).header.get_zooms() == (1, 1, 1)
    accepts(bench, "mm were resampled to 1 mm and back")
    labels = nib.load(bench.output / f"{OTHER}.nii.gz")
    np.testing.assert_allclose(labels.affine, affine)
    assert anatomy.overlap(np.asarray(labels.dataobj), anatomy.truth()[sampled]) > 0.7


def test_22_smaller_than_a_patch(bench: Bench) -> None:
    slab = np.s_[:, 5:25, :]
    bench.add(OTHER, image=lambda i: anatomy.image(i)[slab])
    tiny = bench.add("BraTS-GLI-50001-000", image=lambda i: anatomy.image(i)[17:20, 12:17, 13:14])
    for mode in ("sliding-window", "coarse-to-fine"):
        bench.run("--mode", mode, "--flips")
        labels = read_labels(bench.output / f"{OTHER}.nii.gz")[0]
        assert anatomy.overlap(labels, anatomy.truth()[slab]) > 0.8
        assert read_labels(bench.output / "BraTS-GLI-50001-000.nii.gz")[0].shape == nib.load(tiny["t1n"]).shape
