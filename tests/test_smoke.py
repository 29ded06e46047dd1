"""The shipped weights on the sample case, through the command line: runs on any machine."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_infer.files.check import check_output
from tests.sample import CASE, IMAGES, MIN_WT_DICE, wt_dice

ENTRYPOINT = Path(__file__).parents[1] / "entrypoint.py"


def test_sample_case_is_segmented_on_its_grid_as_the_expert_did(tmp_path: Path) -> None:
    command = [sys.executable, ENTRYPOINT, "--input", IMAGES, "--output", tmp_path, "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert check_output(IMAGES, tmp_path) == []
    (path,) = tmp_path.iterdir()
    assert path.name == f"{CASE}.nii.gz"
    labels, image = nib.load(path), nib.load(IMAGES / CASE / f"{CASE}_t1.nii.gz")
    assert labels.shape == image.shape
    np.testing.assert_array_equal(labels.affine, image.affine)
    assert wt_dice(path) > MIN_WT_DICE
