"""Same anatomy in, same anatomy out: however the axes lie, and however the numbers are stored."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel import orientations as nio

from brats_infer.cohort import segment_folder
from tests.case_files import SRI24, write_case
from tests.faults import anatomy

STORED = {"i1": 8, "u1": 8, "i2": 1, "u2": 1, "i4": 0.5, "u4": 0.5, "i8": 2, "u8": 2, "f4": 0.25, "f8": 0.125}
"""{stored type: a slope with which the intensities fit into it}"""
OFFSET = 10  # of the stored numbers; a power of two times it is exact, so that background stays 0


@dataclass(frozen=True)
class Variant:
    """One way to store an image, and to lay its axes."""

    dtype: str
    order: str
    gain: float
    shifted: bool
    axes: str
    origin: tuple[float, float, float]

    def write(self, path: Path, modality: int) -> None:
        slope = STORED[self.dtype]
        shift = (-OFFSET if self.dtype == "i1" else OFFSET) if self.shifted else 0
        stored = np.round(anatomy.image(modality) / slope).astype(np.int32) + shift
        affine = SRI24.copy()
        affine[:3, 3] = self.origin
        image = nib.Nifti1Image(stored, affine)
        turn = nio.ornt_transform(nio.io_orientation(affine), nio.axcodes2ornt(self.axes))
        image = image.as_reoriented(turn)
        header = nib.Nifti1Header(endianness=self.order)
        header.set_data_dtype(np.dtype(self.dtype).newbyteorder(self.order))
        header.set_data_shape(image.shape)
        header.set_sform(image.affine, 1)
        header["vox_offset"] = 352
        header["scl_slope"], header["scl_inter"] = slope * self.gain, -shift * slope * self.gain
        content = np.asarray(image.dataobj).astype(header.get_data_dtype()).tobytes(order="F")
        path.write_bytes(header.binaryblock + b"\0\0\0\0" + content)


variants = st.builds(
    Variant,
    dtype=st.sampled_from(sorted(STORED)),
    order=st.sampled_from("<>"),
    gain=st.sampled_from((2.0**-20, 0.25, 1.0, 32.0, 2.0**20)),
    shifted=st.booleans(),
    axes=st.permutations(["RL", "AP", "SI"])
    .flatmap(lambda pairs: st.tuples(*map(st.sampled_from, pairs)))
    .map("".join),
    origin=st.tuples(*[st.floats(-1000, 1000, width=16)] * 3),
)


@pytest.fixture(scope="module")
def segmented(weights: Path) -> Callable[[Callable[[Path, int], None]], nib.Nifti1Image]:
    """A function: (how to write an image, and which) -> the label map of a run on such images."""

    def run(write: Callable[[Path, int], None]) -> nib.Nifti1Image:
        with TemporaryDirectory() as name:
            folder = Path(name)
            for modality, path in enumerate(write_case(folder / "input", ending=".nii").values()):
                write(path, modality)
            (result,) = segment_folder(folder / "input", folder / "output", weights=weights, device="cpu")
            assert result.status == "written", result.message
            labels = nib.load(folder / "output" / f"{result.id}.nii.gz")
            return nib.Nifti1Image(np.asarray(labels.dataobj), labels.affine)

    return run


@settings(max_examples=60)
@given(variant=variants)
def test_axes_types_scales_and_origins_change_nothing(
    segmented: Callable[..., nib.Nifti1Image], variant: Variant
) -> None:
    labels = segmented(variant.write)
    assert "".join(nib.aff2axcodes(labels.affine)) == variant.axes
    back = nio.ornt_transform(nio.io_orientation(labels.affine), nio.io_orientation(SRI24))
    plain = labels.as_reoriented(back)
    np.testing.assert_allclose(plain.affine[:3, 3], variant.origin, atol=1e-3)
    np.testing.assert_array_equal(np.asarray(plain.dataobj), anatomy.truth())


@pytest.mark.parametrize("dtype", sorted(STORED))
def test_every_type_of_number(segmented: Callable[..., nib.Nifti1Image], dtype: str) -> None:
    labels = segmented(Variant(dtype, ">", 1.0, True, "LPS", (0, 239, 0)).write)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), anatomy.truth())


@settings(max_examples=15)
@given(spacing=st.tuples(*[st.floats(0.5, 2.5)] * 3), axes=st.sampled_from(["LPS", "RAS", "SRA", "PIL"]))
def test_spacings_keep_the_anatomy_on_the_grid_of_the_input(
    segmented: Callable[..., nib.Nifti1Image], spacing: tuple[float, float, float], axes: str
) -> None:
    at = np.ix_(*(np.arange(0, n - 1, mm).round().astype(int) for n, mm in zip(anatomy.SHAPE, spacing, strict=True)))
    affine = SRI24 @ np.diag([*spacing, 1])
    turn = nio.ornt_transform(nio.io_orientation(affine), nio.axcodes2ornt(axes))

    def write(path: Path, modality: int) -> None:
        nib.Nifti1Image(anatomy.image(modality)[at], affine).as_reoriented(turn).to_filename(path)

    labels = segmented(write)
    expected = nib.Nifti1Image(anatomy.truth()[at], affine).as_reoriented(turn)
    np.testing.assert_allclose(labels.affine, expected.affine, atol=1e-3)
    assert anatomy.overlap(np.asarray(labels.dataobj), np.asarray(expected.dataobj)) > 0.7
