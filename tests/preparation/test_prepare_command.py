import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer.preparation import prepare as preparing
from brats_infer.settings import PrepareOptions
from tests.preparation.scans import brain_image, image_of, write_study
from tests.small_networks import sure_network, write_weights


def brats_opt(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "entrypoint", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of stripped images; one without T1c; one of a foot."""
    folder = tmp_path_factory.mktemp("studies")
    write_study(folder / "whole")
    shutil.copytree(folder / "whole", folder / "lacking")
    (folder / "lacking" / "t1c.nii.gz").unlink()
    shutil.copytree(folder / "whole", folder / "small")
    foot = sitk.Cast(image_of(np.full((20, 20, 20), 7, np.float32), (2.0, 2.0, 2.0)), sitk.sitkInt16)
    sitk.WriteImage(foot, str(folder / "small" / "t2w.nii.gz"))
    return folder


@pytest.fixture(scope="module")
def prepared(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    out = tmp_path_factory.mktemp("cases")
    return out, brats_opt("prepare", "--input", studies, "--out", out, "--atlas", "none")


def test_study_becomes_a_case_of_four_images_on_one_grid(
    prepared: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, run = prepared
    assert run.returncode == 3  # the other two studies fail
    images = [nib.load(out / "whole" / f"whole-{contrast}.nii.gz") for contrast in ("t1n", "t1c", "t2w", "t2f")]
    assert len({image.shape for image in images}) == 1
    assert all(np.allclose(image.affine, images[0].affine) for image in images)
    t1n, t1c, t2w, t2f = (np.asarray(image.dataobj, np.float64) for image in images)
    brain = (t1n > 0) & (t1c > 0) & (t2w > 0) & (t2f > 0)
    assert np.count_nonzero(brain) > 0.95 * np.count_nonzero(t1c)
    assert np.corrcoef(t1n[brain], t1c[brain])[0, 1] > 0.8
    assert np.corrcoef(t2w[brain], t1c[brain])[0, 1] < -0.8


def test_record_and_picture_and_page_stand_beside_the_images(
    prepared: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = prepared
    record = json.loads((out / "whole" / "prepare.json").read_text())
    assert record["reference"] == "t1c"
    assert {scan["registration"]["to"] for name, scan in record["contrasts"].items() if name != "t1c"} == {"t1c"}
    assert (out / "whole" / "prepare.png").read_bytes().startswith(b"\x89PNG")
    assert sitk.ReadTransform(str(out / "whole" / "transforms" / "t2w.tfm")).GetDimension() == 3
    page = (out / "index.html").read_text()
    assert "1 studies prepared, 2 failed" in page
    assert "whole/prepare.png" in page


def test_each_study_that_fails_is_one_line(prepared: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, run = prepared
    lines = [line for line in run.stderr.splitlines() if "lacking" in line or "small" in line]
    assert len(lines) == 2, run.stderr
    assert "has no t1c" in run.stderr
    assert "--series t1c" in run.stderr
    assert "spans 40 mm, less than a head" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (out / "lacking").exists()


def test_map_comes_back_onto_each_scan(
    prepared: tuple[Path, subprocess.CompletedProcess[str]], studies: Path, tmp_path: Path
) -> None:
    out, _ = prepared
    case = nib.load(out / "whole" / "whole-t1c.nii.gz")
    labels = np.zeros(case.shape, np.uint8)
    x, y, z = np.ogrid[tuple(slice(n) for n in labels.shape)]
    labels[(x - 95) ** 2 + (y - 118) ** 2 + (z - 90) ** 2 < 18**2] = 2
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(labels, case.affine), tmp_path / "labels" / "whole.nii.gz")
    arguments = ("--labels", tmp_path / "labels", "--prepared", out, "--out", tmp_path / "native", "--task", "gli")
    run = brats_opt("restore", *arguments)
    assert run.returncode == 0, run.stderr
    for contrast in ("t1n", "t1c", "t2w", "t2f"):
        native = nib.load(tmp_path / "native" / "whole" / f"whole-on-{contrast}.nii.gz")
        scan = nib.load(studies / "whole" / f"{contrast}.nii.gz")
        assert native.shape == scan.shape
        assert np.allclose(native.affine, scan.affine, atol=1e-3)
        volume = np.count_nonzero(native.dataobj) * abs(np.linalg.det(native.affine[:3, :3]))
        assert abs(volume / np.count_nonzero(labels) - 1) < 0.03


def test_head_on_its_face_is_refused_on_an_atlas(tmp_path: Path) -> None:
    write_study(tmp_path / "studies" / "turned")
    for seed, path in enumerate(sorted((tmp_path / "studies" / "turned").iterdir())):
        values = sitk.GetArrayFromImage(brain_image(inverted="t2" in path.name)).T
        noise = np.random.default_rng(seed).normal(0, 10, values.shape).astype(np.float32)
        turned = image_of(np.swapaxes(np.where(values > 0, values + noise, 0), 1, 2), (2.0, 2.0, 2.0))
        sitk.WriteImage(sitk.Cast(turned, sitk.sitkInt16), str(path))
    run = brats_opt("prepare", "--input", tmp_path / "studies", "--out", tmp_path / "cases")
    assert run.returncode == 3
    assert "turned: t1c could not be registered to the atlas" in run.stderr


def test_raw_run_without_a_challenge_is_refused_before_any_work(studies: Path, tmp_path: Path) -> None:
    run = brats_opt("--raw", "--input", studies, "--output", tmp_path / "out")
    assert run.returncode == 2
    assert "give --task" in run.stderr
    assert not (tmp_path / "out" / "cases").exists()
    run = brats_opt("--raw", "--input", studies, "--output", tmp_path / "out", "--task", "gli", "--shard", "1/2")
    assert run.returncode == 2
    assert "--shard" in run.stderr


def test_raw_run_writes_labels_and_maps_on_the_scans_and_a_report(
    prepared: tuple[Path, subprocess.CompletedProcess[str]], studies: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights").mkdir()
    write_weights(tmp_path / "weights", [sure_network()])
    shutil.copytree(prepared[0] / "whole", tmp_path / "out" / "cases" / "whole")
    arguments = ("--input", studies, "--output", tmp_path / "out", "--report", tmp_path / "report", "--resume")
    run = brats_opt("--raw", *arguments, "--task", "gli", "--weights", tmp_path / "weights", "--device", "cpu")
    assert run.returncode == 3, run.stderr  # the other two studies fail
    assert "Traceback" not in run.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [(case["id"], case["status"]) for case in report["cases"]] == [("whole", "written")]
    assert (tmp_path / "report" / "pictures" / "whole.png").is_file()
    assert (tmp_path / "out" / "labels" / "whole.nii.gz").is_file()
    assert (tmp_path / "out" / "native" / "whole" / "whole-on-t2f.nii.gz").is_file()


def test_mask_of_the_user_is_the_brain(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "one"
    place = write_study(folder, ("t1c",))["t1c"]
    scan = sitk.ReadImage(str(folder / "t1c.nii.gz"))
    middle = np.array(place.TransformPoint((0.0, 0.0, 0.0)))
    where = np.indices(scan.GetSize()).reshape(3, -1).T * scan.GetSpacing() + scan.GetOrigin()
    ball = (np.linalg.norm(where - middle, axis=1) < 52).reshape(scan.GetSize())
    mask = sitk.GetImageFromArray(ball.T.astype(np.uint8))
    mask.CopyInformation(scan)
    sitk.WriteImage(mask, str(folder / "mine.nii.gz"))
    arguments = ("--out", tmp_path / "cases", "--atlas", "none", "--missing", "use", "--brain", "mine.nii.gz")
    run = brats_opt("prepare", "--input", tmp_path / "studies", *arguments)
    assert run.returncode == 0, run.stderr
    case = nib.load(tmp_path / "cases" / "one" / "one-t1c.nii.gz")
    kept = np.asarray(case.dataobj) != 0
    assert np.count_nonzero(kept) == pytest.approx(4 / 3 * np.pi * 52**3, rel=0.01)
    centre = case.affine[:3, :3] @ np.argwhere(kept).mean(0) + case.affine[:3, 3]
    assert np.linalg.norm(centre * (-1, -1, 1) - middle) < 0.5


def test_damaged_map_is_one_line_and_the_other_one_is_restored(
    prepared: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    out, _ = prepared
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "broken.nii.gz").write_bytes(b"no map")
    shutil.copytree(out / "whole", tmp_path / "cases" / "broken")
    shutil.copytree(out / "whole", tmp_path / "cases" / "whole")
    case = nib.load(out / "whole" / "whole-t1c.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(case.shape, np.uint8), case.affine), tmp_path / "labels" / "whole.nii.gz")
    arguments = ("--labels", tmp_path / "labels", "--prepared", tmp_path / "cases", "--out", tmp_path / "native")
    run = brats_opt("restore", *arguments, "--task", "gli")
    assert run.returncode == 3
    assert "broken.nii.gz: cannot be read" in run.stderr
    assert "Traceback" not in run.stderr
    assert (tmp_path / "native" / "whole" / "whole-on-t1n.nii.gz").is_file()


def test_error_of_the_registration_costs_its_study_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("ITK ERROR: all samples map outside")

    monkeypatch.setattr(preparing, "prepare_case", fails)
    write_study(tmp_path / "studies" / "one")
    outcomes = preparing.prepare(tmp_path / "studies", tmp_path / "cases", PrepareOptions())
    assert [outcome.problem for outcome in outcomes] == [
        "one: cannot be registered (ITK ERROR: all samples map outside): look at its scans"
    ]
