"""`brats-opt check --data`: what a folder of labelled cases holds, and its exit code."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from brats_infer.commands.check import check
from brats_infer.errors import UsageError
from brats_infer.phantom.write import write_cohort

IDS = [f"BraTS-GLI-0300{i}-000" for i in range(2)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    assert list(write_cohort(tmp_path / "data", "gli", 2, seed=3, shape=(20, 22, 18))) == IDS
    return tmp_path / "data"


def test_a_folder_that_can_be_trained_on_whole_is_exit_code_0_else_3(data: Path) -> None:
    options = ["--data", str(data), "--task", "gli"]
    done = CliRunner().invoke(check, options)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 cases, 0 of them left out, 2 patients")
    (data / IDS[0] / f"{IDS[0]}-seg.nii.gz").unlink()
    done = CliRunner().invoke(check, options)
    assert (done.exit_code, done.stdout.splitlines()[0]) == (
        3,
        f"left out: {IDS[0]}: has no label map {IDS[0]}-seg.nii.gz",
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "DATA"], "--task: is auto: name the challenge"),
        (["--input", "DATA"], "--output: is missing"),
        ([], "--input: is missing"),
    ],
)
def test_options_that_say_too_little_are_refused(data: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(check, [str(data) if word == "DATA" else word for word in options])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
