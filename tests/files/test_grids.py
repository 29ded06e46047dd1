"""The place of a volume, read, compared and written back as it was."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError
from brats_infer.files.geometry import Geometry
from brats_infer.files.nifti import (
    read_geometry,
    read_images,
    read_volume,
    write_labels,
)
from tests.case_files import SHAPE, SRI24, edit_header, head, raw_header, write_case
from tests.case_files import write_image as save
from tests.files.places import OBLIQUE, assert_same_place, reason


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
    with pytest.raises(CaseError, match=r"t2w.nii.gz: its shape \(12, 14, 11\) is not \(12, 14, 10\) of .*t1n.nii.gz"):
        read_images(paths.values())


@pytest.mark.parametrize(("shift", "told"), [(0.0, False), (5e-4, False), (4e-3, True), (0.09, True), (0.11, None)])
def test_contrasts_micrometres_apart_are_one_grid_with_a_warning(
    tmp_path: Path, shift: float, told: bool | None
) -> None:
    """Field report micrometres. A tenth of a voxel is the limit; None: refused."""
    paths = write_case(tmp_path)
    moved = SRI24.copy()
    moved[1, 3] += shift
    save(paths["t2f"], head(), moved)
    if told is None:
        with pytest.raises(CaseError, match=r"t2f.nii.gz: its affine differs by 0.11 mm from that of .*t1n.nii.gz"):
            read_images(paths.values())
        return
    volumes = read_images(paths.values())
    warnings = [warning for volume in volumes.values() for warning in volume.warnings]
    assert [
        bool("t2f.nii.gz: its affine differs by" in w and "less than a tenth of a voxel" in w) for w in warnings
    ] == [True] * told
    if told:
        assert volumes[paths["t2f"]].geometry is volumes[paths["t1n"]].geometry


@pytest.mark.parametrize(("scale", "accepted"), [(1.005, True), (1.01, False)])
def test_a_scale_counts_at_the_corner_of_the_grid_where_it_moves_voxels_most(
    tmp_path: Path, scale: float, accepted: bool
) -> None:
    """14 voxels along y: 0.065 or 0.13 voxels at the far end."""
    paths = write_case(tmp_path)
    save(paths["t2f"], head(), SRI24 @ np.diag([1, scale, 1, 1]))
    if accepted:
        assert read_images(paths.values())[paths["t2f"]].warnings
    else:
        with pytest.raises(CaseError, match=r"t2f.nii.gz: its affine differs by"):
            read_images(paths.values())


def test_a_tenth_of_a_voxel_is_measured_along_its_shortest_edge(tmp_path: Path) -> None:
    flat = SRI24 @ np.diag([1, 1, 5, 1])
    paths = write_case(tmp_path, affine=flat)
    save(paths["t2f"], head(), flat + np.eye(4)[:, [3, 3, 2, 2]] * [0, 0, 0, 0.2])
    with pytest.raises(CaseError, match=r"t2f.nii.gz: its affine differs by"):
        read_images(paths.values())


def test_digits_beyond_float32_that_only_nifti_2_holds_are_dropped_where_it_is_read(tmp_path: Path) -> None:
    affine = np.array([[1, 0, 0, 123456.789], [0, 1, 0, 0.123456789], [0, 0, 1, 98765.4321], [0, 0, 0, 1]])
    nib.save(nib.Nifti2Image(head(), affine), tmp_path / "image.nii")
    geometry = read_geometry(tmp_path / "image.nii")
    write_labels(tmp_path / "seg.nii.gz", np.zeros(SHAPE, np.uint8), geometry)
    np.testing.assert_array_equal(read_geometry(tmp_path / "seg.nii.gz").affine, geometry.affine)


@pytest.mark.parametrize("name", ["qform_code", "sform_code"])
def test_codes_that_nifti_1_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    image = nib.Nifti2Image(head(), SRI24)
    image.header[name] = 66000
    nib.save(image, tmp_path / "image.nii")
    assert "is 66000" in reason(tmp_path / "image.nii")
