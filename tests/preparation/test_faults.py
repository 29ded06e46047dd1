"""Studies that hold no usable head: each is one line."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from brats_infer import prepare
from brats_infer.errors import CaseError
from brats_infer.preparation.masks.brain import brain_of
from brats_infer.settings import PrepareOptions
from tests.preparation.scans import image_of, write_study
from tests.preparation.test_prepare_command import brats_opt

CONTRASTS = ("t1n", "t1c", "t2w", "t2f")
PLACES = np.stack(np.meshgrid(*[(np.arange(64) - 31.5) * 4] * 3, indexing="ij"))


def write(folder: Path, images: dict[str, NDArray[np.float32]], mm: float = 4.0) -> None:
    folder.mkdir(parents=True)
    for contrast, values in images.items():
        image = sitk.Cast(image_of(values, (mm, mm, mm)), sitk.sitkInt16)
        sitk.WriteImage(image, str(folder / f"{contrast}.nii.gz"))


def noise(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(1, 900, PLACES.shape[1:]).astype(np.float32)


def ellipsoid(*semi_axes: float) -> NDArray[np.bool_]:
    return np.asarray(sum((axis / semi) ** 2 for axis, semi in zip(PLACES, semi_axes, strict=True)) < 1)


def refused(folder: Path, atlas: str = "sri24") -> str:
    """The line of a study that fails, of Python and without a case."""
    out = folder.parent.parent / "cases"
    (outcome,) = prepare(folder.parent, out, PrepareOptions(atlas=atlas, missing="use"))
    assert outcome.problem is not None
    assert "\n" not in outcome.problem
    assert outcome.problem.startswith(f"{folder.name}: ") or str(folder) in outcome.problem
    assert not (out / folder.name).exists()
    return outcome.problem


def test_one_slice_and_copies_are_each_one_line(tmp_path: Path) -> None:
    write(tmp_path / "studies" / "slice", {c: noise(i)[:, :, :1] for i, c in enumerate(CONTRASTS)})
    write(tmp_path / "studies" / "copies", dict.fromkeys(CONTRASTS, noise(0)))
    run = brats_opt("prepare", "--input", tmp_path / "studies", "--out", tmp_path / "cases")
    assert run.returncode == 3
    copies, one_slice = (line for line in run.stderr.splitlines() if "copies" in line or "slice" in line)
    assert "copies: t1n (t1n.nii.gz) and t1c (t1c.nii.gz) hold the same image" in copies
    assert "t1n.nii.gz: has 1 slices: take the whole series" in one_slice
    assert "Traceback" not in run.stderr


def test_noise_is_no_brain(tmp_path: Path) -> None:
    write(tmp_path / "studies" / "noise", {"t1c": noise(0)})
    refused(tmp_path / "studies" / "noise")


def test_box_is_no_brain(tmp_path: Path) -> None:
    box = (np.abs(PLACES) < 60).all(axis=0)
    write(tmp_path / "studies" / "box", {"t1c": np.where(box, noise(1), 0)})
    assert "could not be registered to the atlas" in refused(tmp_path / "studies" / "box")


@pytest.mark.parametrize("atlas", ["none", "sri24"])
def test_foot_is_no_brain(tmp_path: Path, atlas: str) -> None:
    write(tmp_path / "studies" / "foot", {"t1c": np.where(ellipsoid(44, 120, 48), noise(2), 0)})
    problem = refused(tmp_path / "studies" / "foot", atlas)
    assert atlas != "none" or "mm long and 96 mm wide, which is no brain" in problem


def test_mask_as_long_as_a_brain_is_one_and_a_longer_one_is_none() -> None:
    for semi_axes, is_brain in (((62, 85, 58), True), ((62, 85, 35), True), ((45, 110, 45), False)):
        mask = np.kron(ellipsoid(*semi_axes), np.ones((4, 4, 4))).astype(np.float32)
        if is_brain:
            assert brain_of(mask[None], "one").any()
        else:
            with pytest.raises(CaseError, match=r"^one: the mask is 2\d\d mm long and 9\d mm wide, which is no brain"):
                brain_of(mask[None], "one")


def test_mirrored_header_is_told(tmp_path: Path) -> None:
    write_study(tmp_path / "studies" / "one", ("t1n", "t1c"))
    path = tmp_path / "studies" / "one" / "t1n.nii.gz"
    image = sitk.ReadImage(str(path))
    mirrored = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[:, :, ::-1])
    mirrored.CopyInformation(image)
    sitk.WriteImage(mirrored, str(path))
    problem = refused(tmp_path / "studies" / "one", "none")
    assert problem == "one: t1n is a mirror image of t1c: mend the header of one of them"
