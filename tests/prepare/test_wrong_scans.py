"""Studies that are no head's, or that lack a part of it, end in one line each."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from numpy.typing import NDArray

from tests.prepare.scans import image_of, write_study

CONTRASTS = ("t1n", "t1c", "t2w", "t2f")


def write(values: NDArray[np.float32], path: Path, mm: float = 2.0) -> None:
    sitk.WriteImage(sitk.Cast(image_of(values.astype(np.float32), (mm, mm, mm)), sitk.sitkInt16), str(path))


def cut(path: Path, share: float) -> None:
    """Keeps the lower slices of a scan."""
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image[:, :, : int(image.GetSize()[2] * share)], str(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The cases and the lines of one run over all of the studies."""
    studies = tmp_path_factory.mktemp("studies")
    write_study(studies / "half")
    for name in ("most", "mirrored", "slice", "copies"):
        shutil.copytree(studies / "half", studies / name)
    cut(studies / "half" / "t2w.nii.gz", 0.55)
    cut(studies / "most" / "t2w.nii.gz", 0.68)
    image = sitk.ReadImage(str(studies / "mirrored" / "t2w.nii.gz"))
    flipped = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[:, :, ::-1])
    flipped.CopyInformation(image)
    sitk.WriteImage(flipped, str(studies / "mirrored" / "t2w.nii.gz"))
    one = sitk.ReadImage(str(studies / "slice" / "t1n.nii.gz"))[:, :, 20:21]
    sitk.WriteImage(one, str(studies / "slice" / "t1n.nii.gz"))
    for contrast in CONTRASTS[1:]:
        shutil.copy(studies / "copies" / "t1n.nii.gz", studies / "copies" / f"{contrast}.nii.gz")
    (studies / "noise").mkdir()
    for seed, contrast in enumerate(CONTRASTS):
        noise = np.random.default_rng(seed).uniform(1, 1000, (70, 70, 70))
        write(noise.astype(np.float32), studies / "noise" / f"{contrast}.nii.gz")
    out = tmp_path_factory.mktemp("cases")
    command = [sys.executable, "-m", "entrypoint", "prepare", "--input", studies, "--out", out, "--atlas", "none"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    return out, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("study", "line"),
    [
        ("half", "t2w covers 61% of the brain: take another series by --series t2w=…"),
        ("mirrored", "t2w is a mirror image of t1c: mend the header of one of them"),
        ("slice", "has 1 slices: take the whole series"),
        ("copies", "hold the same image: give each contrast its own"),
        ("noise", "noise: t1n"),  # no brain in it, or it fits no other
    ],
)
def test_fault_is_one_line_and_no_case_is_written(run: tuple[Path, list[str]], study: str, line: str) -> None:
    out, lines = run
    (told,) = [each for each in lines if study in each]
    assert line in told
    assert not (out / study).exists()


def test_scan_that_ends_within_the_brain_is_told_and_kept(run: tuple[Path, list[str]]) -> None:
    out, lines = run
    told = "t2w covers 88% of the brain: look at the picture"
    assert any(line.endswith(f"most: {told}") for line in lines), lines
    record = json.loads((out / "most" / "prepare.json").read_text())
    assert record["notes"] == [told]
    assert record["contrasts"]["t2w"]["covered"] == pytest.approx(0.88, abs=0.01)
    assert record["contrasts"]["t1c"]["covered"] == 1.0


def test_foot_is_refused_on_an_atlas(tmp_path: Path) -> None:
    x, y, z = np.ogrid[-60:60, -75:75, -60:60]
    rng = np.random.default_rng(0)
    foot = np.where((x / 23) ** 2 + (y / 68) ** 2 + (z / 23) ** 2 < 1, rng.uniform(300, 900, (120, 150, 120)), 0)
    (tmp_path / "studies" / "foot").mkdir(parents=True)
    for contrast, turn in zip(CONTRASTS, (1.0, 0.9, 0.8, 0.7), strict=True):
        noise = rng.uniform(0, 200, foot.shape) * (foot > 0)
        write(foot * turn + noise, tmp_path / "studies" / "foot" / f"{contrast}.nii.gz")
    command = [
        sys.executable,
        "-m",
        "entrypoint",
        "prepare",
        "--input",
        tmp_path / "studies",
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert "foot: t1c could not be registered to the atlas" in line
