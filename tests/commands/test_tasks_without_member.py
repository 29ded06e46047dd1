"""What a run does with cases of a challenge that the weights have no network for."""

from pathlib import Path

import numpy as np
import pytest

from brats_infer.files.labels import read_labels
from tests.case_files import write_case
from tests.small_networks import random_network, write_weights
from tests.test_cli import brats_opt, one_line

GLI, MET = "BraTS-GLI-00001-000", "BraTS-MET-00001-000"
NO_MEMBER = "weights: lists no member for the task met: give --weights with one, as `brats-opt train --task met"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Weights for gli alone, and a case of met."""
    (tmp_path / "weights").mkdir()
    write_weights(tmp_path / "weights", [random_network()])
    write_case(tmp_path / "in", MET)
    return tmp_path


def options(folder: Path) -> tuple[object, ...]:
    return ("--input", folder / "in", "--output", folder / "out", "--weights", folder / "weights", "--device", "cpu")


@pytest.mark.parametrize("more", [(), ("--task", "met"), ("--on-error", "blank")])
def test_a_run_without_any_member_says_so_in_one_line(folder: Path, more: tuple[str, ...]) -> None:
    done = brats_opt(*options(folder), *more)
    assert done.returncode == 5
    assert NO_MEMBER in one_line(done)
    assert not list((folder / "out").iterdir())


def test_in_a_mixed_folder_cases_without_member_fail_by_name_and_the_others_are_written(folder: Path) -> None:
    write_case(folder / "in", GLI)
    done = brats_opt(*options(folder))
    assert done.returncode == 3
    assert f"{MET}: {folder}/{NO_MEMBER}" in done.stderr
    assert [path.name for path in (folder / "out").iterdir()] == [f"{GLI}.nii.gz"]


def test_a_blind_run_writes_blank_maps_of_cases_without_member(folder: Path) -> None:
    write_case(folder / "in", GLI)
    done = brats_opt(*options(folder), "--on-error", "blank", "--missing", "use")
    assert done.returncode == 0
    assert NO_MEMBER in done.stderr
    assert sorted(path.name for path in (folder / "out").iterdir()) == [f"{GLI}.nii.gz", f"{MET}.nii.gz"]
    assert not np.any(read_labels(folder / "out" / f"{MET}.nii.gz")[0])


def test_faulty_cases_beside_cases_without_member_fail_by_name_too(folder: Path) -> None:
    for path in write_case(folder / "in", GLI).values():
        path.write_bytes(b"no image")
    done = brats_opt(*options(folder))
    assert done.returncode == 3
    assert NO_MEMBER in done.stderr
    assert f"{GLI}-t1n.nii.gz" in done.stderr
