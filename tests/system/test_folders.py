"""The folders that a run writes to."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from brats_infer.commands.infer import infer
from brats_infer.errors import OutputError, UsageError
from brats_infer.system.folders import OUTPUT, prepare_folder
from model.atomic import PREFIX


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b", "--output", {})
    assert not list((tmp_path / "a" / "b").iterdir())


def test_runs_that_start_together_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Containers on one folder: each has the process number 1, as these threads have one."""
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: prepare_folder(tmp_path, "--output", {}), range(400)))
    assert len(done) == 400
    assert not list(tmp_path.iterdir())  # none left its trial file to another


def test_one_that_is_taken_is_refused_with_the_option_to_change(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is the input folder: choose another --report"):
        prepare_folder(tmp_path / "link", "--report", {"the input folder": tmp_path})


def test_what_lies_in_the_output_folder_is_refused(tmp_path: Path) -> None:
    """Which holds label maps alone: `check`, and organizers, take all else for a fault."""
    with pytest.raises(UsageError, match=r"lies in the output folder.*: choose another --report"):
        prepare_folder(tmp_path / "out" / "report", "--report", {OUTPUT: tmp_path / "out"})
    assert not list(tmp_path.iterdir())
    prepare_folder(tmp_path / "out", "--output", {"the input folder": tmp_path})


def test_a_link_to_itself_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="loop: cannot be written"):
        prepare_folder(tmp_path / "loop", "--output", {"the input folder": tmp_path})


def test_one_that_may_not_be_read_is_no_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    for option, name in (("--output", "output_folder"), ("--report", "report"), ("--probabilities", "probabilities")):
        context = infer.make_context("infer", [option, str(tmp_path)])
        assert context.params[name] == tmp_path


def test_one_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/below: cannot be written .* --probabilities"):
        prepare_folder(tmp_path / "file" / "below", "--probabilities", {})


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}abc").write_bytes(b"half")
    (tmp_path / "BraTS-GLI-00001-000.nii.gz").touch()
    prepare_folder(tmp_path, "--output", {})
    assert [path.name for path in tmp_path.iterdir()] == ["BraTS-GLI-00001-000.nii.gz"]
