import subprocess
import sys

import pytest


def test_nibabel_is_loaded_without_pydicom_which_stays_importable() -> None:
    pytest.importorskip("pydicom")
    look = "print('pydicom' in sys.modules)"
    code = f"import sys, brats_infer.files, nibabel; {look}; import pydicom; {look}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
