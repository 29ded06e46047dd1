"""Situations of the field that a blind run meets: a constant background, a skull left in, files that only point."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from brats_infer.files.labels import read_labels
from tests.container.engine import contents, folders, run
from tests.preparation.scans import write_study

CASE = "BraTS-GLI-01000-000"
OTHER = "BraTS-GLI-01001-000"
Array = NDArray[Any]


def changed(small: Path, folder: Path, change: Callable[[Array], Array], scale: float = 1.0) -> Path:
    """The small cases with `change` applied to the images of the first, whose voxels become `scale` times as large."""
    for path in sorted(small.glob(f"*/{CASE}-t??.nii.gz")) + sorted(small.glob(f"*/{OTHER}-t??.nii.gz")):
        image = nib.load(path)
        data, affine = np.asarray(image.dataobj), image.affine
        if path.parent.name == CASE:
            data, affine = change(data).astype(data.dtype), affine @ np.diag([scale, scale, scale, 1])
        written = nib.Nifti1Image(data, affine, image.header)
        written.set_qform(affine, int(image.header["qform_code"]))
        written.set_sform(affine, int(image.header["sform_code"]))
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        nib.save(written, folder / path.parent.name / path.name)
    return folder


@pytest.mark.parametrize("background", [-1, -1024])
def test_a_constant_background_gives_the_map_of_background_0(
    small: Path, output: Path, tmp_path: Path, expected: dict[str, bytes], background: int
) -> None:
    """Row 3 of the field's situations."""
    cases = changed(small, tmp_path / "in", lambda data: np.where(data == 0, background, data))
    done = run(volumes=folders(cases, output))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"its background is {background}, not 0: it was taken as 0") == 4
    assert contents(output) == expected


def test_a_skull_left_in_is_told(small: Path, output: Path, tmp_path: Path) -> None:
    """Row 4: a voxel edge of 2.5 mm makes a head of the small brain, and its background becomes tissue."""

    def with_tissue(data: Array) -> Array:
        data = data.copy()
        data[2:-2, 2:-2, 2:-2] = np.maximum(data[2:-2, 2:-2, 2:-2], 10)
        return data

    done = run(volumes=folders(changed(small, tmp_path / "in", with_tissue, scale=2.5), output))
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "skull" in line)
    assert CASE in line
    assert set(contents(output)) == {f"{CASE}.nii.gz", f"{OTHER}.nii.gz"}


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1234567\n", "run git lfs pull"),
        ("/annex/objects/SHA256E-s12--aaaa.nii.gz\n", "run git annex get or datalad get"),
    ],
)
def test_pointers_in_place_of_images_get_a_blank_map_and_their_remedy(
    small: Path, output: Path, tmp_path: Path, expected: dict[str, bytes], content: str, remedy: str
) -> None:
    """Row 9."""
    cases = changed(small, tmp_path / "in", lambda data: data)
    for contrast in ("t1n", "t1c", "t2w", "t2f"):
        (cases / CASE / f"{CASE}-{contrast}.nii.gz").write_text(content)
    done = run(volumes=folders(cases, output))
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "blank" in line)
    assert f"{CASE}-t1n.nii.gz: is a git" in line.replace("Git LFS", "git lfs")
    assert remedy in line
    assert contents(output)[f"{OTHER}.nii.gz"] == expected[f"{OTHER}.nii.gz"]
    assert not read_labels(output / f"{CASE}.nii.gz")[0].any()


def test_raw_scans_get_maps_of_their_own(output: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "in" / "BraTS-GLI-00001-000")
    done = run("--raw", volumes=folders(tmp_path / "in", output))
    assert done.returncode == 0, done.stderr
    assert (output / "labels" / "BraTS-GLI-00001-000.nii.gz").is_file()
    for contrast in ("t1n", "t1c", "t2w", "t2f"):
        native = output / "native" / "BraTS-GLI-00001-000" / f"BraTS-GLI-00001-000-on-{contrast}.nii.gz"
        scan = nib.load(tmp_path / "in" / "BraTS-GLI-00001-000" / f"{contrast}.nii.gz")
        assert nib.load(native).shape == scan.shape
