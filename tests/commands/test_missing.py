"""`--missing use`: cases without one or two contrasts are segmented from the others."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer import segment
from brats_infer.errors import CaseError, UsageError
from brats_infer.files.labels import read_labels
from brats_infer.files.nifti import read_case
from brats_infer.files.search.find import find_cases
from brats_infer.network.devices import CPU
from brats_infer.network.loading import load_ensemble
from brats_infer.phantom.write import write_cohort
from brats_infer.pipeline import label, predict, prepare
from brats_infer.settings import Settings
from brats_infer.tasks import TASKS
from tests.small_networks import random_network, write_weights

ROOT = Path(__file__).parents[2]
ID = "BraTS-GLI-01000-000"
SETTINGS = Settings(component_probability=0, dust=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whole` with one case, `lacking` without its t2w, and `weights` trained with absent contrasts."""
    folder = tmp_path_factory.mktemp("missing")
    list(write_cohort(folder / "whole", "gli", 1, seed=1, shape=(30, 34, 26)))
    shutil.copytree(folder / "whole", folder / "lacking")
    (folder / "lacking" / ID / f"{ID}-t2w.nii.gz").unlink()
    (folder / "weights").mkdir()
    write_weights(folder / "weights", [random_network(seed=5)], absent_contrasts=True)
    return folder


def brats_opt(folder: Path, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    given = ("--weights", folder / "weights", "--device", "cpu", "--component-probability", "0", "--dust", "0", *args)
    return subprocess.run(
        [sys.executable, ROOT / "entrypoint.py", *map(str, given)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def expected(folder: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """The labels of the whole case, whose T2 is set to 0 in the network's input, as it is in training."""
    ensemble = load_ensemble(folder / "weights", TASKS["gli"], CPU)
    read = prepare(read_case(find_cases(folder / "whole")[0]), ensemble)
    for channels in read.inputs.values():
        channels[2] = 0
    return label(predict(read, ensemble, SETTINGS), TASKS["gli"], SETTINGS).labels


def test_a_case_without_t2_is_segmented_as_in_training(folder: Path, tmp_path: Path, expected: object) -> None:
    options = ("--input", folder / "lacking", "--output", tmp_path / "out", "--missing", "use")
    done = brats_opt(folder, *options, "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert f"warning: {ID}: t2w is missing: the map is made from the other contrasts" in done.stderr
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / f"{ID}.nii.gz")[0], expected)
    assert read_labels(tmp_path / "out" / f"{ID}.nii.gz")[0].any()
    (case,) = json.loads((tmp_path / "report" / "report.json").read_text())["cases"]
    assert "absent contrast" in case["flags"]
    again = brats_opt(folder, *options, "--report", tmp_path / "again", "--resume")
    assert (tmp_path / "again" / "pictures" / f"{ID}.png").is_file(), again.stderr


@pytest.mark.parametrize("fault", ["cut", "constant"])
def test_a_broken_t2_is_left_out_with_its_reason(folder: Path, tmp_path: Path, expected: object, fault: str) -> None:
    shutil.copytree(folder / "whole", tmp_path / "in")
    path = tmp_path / "in" / ID / f"{ID}-t2w.nii.gz"
    if fault == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    else:
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.full(image.shape, 7, np.int16), image.affine, image.header), path)
    options = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    done = brats_opt(folder, *options, BRATS_OPT_MISSING="use", BRATS_OPT_ON_ERROR="blank")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "made from the other contrasts" in line)
    assert line.startswith(f"warning: {ID}: t2w cannot be used ({path}: ")
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / f"{ID}.nii.gz")[0], expected)
    assert brats_opt(folder, *options).returncode == 3


def test_without_the_option_the_line_says_that_it_exists(folder: Path, tmp_path: Path) -> None:
    done = brats_opt(folder, "--input", folder / "lacking", "--output", tmp_path)
    assert done.returncode == 3
    assert "lacks t2w" in done.stderr
    assert "or give --missing use" in done.stderr


@pytest.mark.parametrize("absent", [("t1c", "t2f"), ("t1n", "t2w", "t2f")])
def test_too_few_contrasts_are_no_case(folder: Path, tmp_path: Path, absent: tuple[str, ...]) -> None:
    shutil.copytree(folder / "whole", tmp_path / "in")
    for name in absent:
        (tmp_path / "in" / ID / f"{ID}-{name}.nii.gz").unlink()
    done = brats_opt(folder, "--input", tmp_path / "in", "--output", tmp_path / "out", "--missing", "use")
    assert done.returncode == 3
    assert f"lacks {', '.join(absent)}" in done.stderr
    assert "--missing" not in done.stderr


def test_weights_that_never_lacked_a_contrast_refuse_the_case(folder: Path, tmp_path: Path) -> None:
    write_weights(tmp_path, [random_network(seed=5)])
    options = ("--input", folder / "lacking", "--output", tmp_path / "out", "--missing", "use", "--weights", tmp_path)
    done = brats_opt(folder, *options)
    assert done.returncode == 3
    assert f"{ID}: t2w is missing, and no network here was trained without a contrast: give all four" in done.stderr


def test_three_files_on_the_command_line(folder: Path, tmp_path: Path, expected: object) -> None:
    files = [word for n in ("t1n", "t1c", "t2f") for word in (f"--{n}", folder / "whole" / ID / f"{ID}-{n}.nii.gz")]
    output = tmp_path / "map.nii.gz"
    done = brats_opt(folder, *files, "--output", output, "--missing", "use")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_labels(output)[0], expected)
    refused = brats_opt(folder, *files, "--output", output)
    assert refused.returncode == 2
    assert "--t2w: is missing: give one file for each contrast, or --missing use" in refused.stderr


def test_in_python_the_key_is_left_out(folder: Path, tmp_path: Path, expected: object) -> None:
    images = {name: folder / "whole" / ID / f"{ID}-{name}.nii.gz" for name in ("t1n", "t1c", "t2f")}
    found = segment(images, task="gli", weights=folder / "weights", device="cpu", settings=SETTINGS)
    np.testing.assert_array_equal(found.labels, expected)
    assert "images: t2w is missing: the map is made from the other contrasts" in found.warnings
    arrays = {name: nib.load(path) for name, path in images.items()}
    same = segment(arrays, task="gli", weights=folder / "weights", device="cpu", settings=SETTINGS)
    np.testing.assert_array_equal(same.labels, expected)
    with pytest.raises(UsageError, match="but not both t1c and t2f"):
        segment({"t1n": images["t1n"], "t2w": images["t1c"]}, task="gli", weights=folder / "weights", device="cpu")
    write_weights(tmp_path, [random_network(seed=5)])
    with pytest.raises(CaseError, match="give all four"):
        segment(images, task="gli", weights=tmp_path, device="cpu")
