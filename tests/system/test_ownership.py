"""Becoming the output folder's owner, in processes of their own; `tests/container` does the same with the image."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.case_files import touch_case

ROOT = Path(__file__).parents[2]
USER, GROUP = 12345, 12346
WHO = "json.dumps([os.getresuid(), os.getresgid(), os.getgroups()])"
ROOTS = [[0] * 3, [0] * 3, [7, 8]]
OWNERS = [[USER] * 3, [GROUP] * 3, []]


@pytest.fixture
def folder() -> Iterator[Path]:
    """`input` with a case that everybody may read, and an `output` of USER; pytest's own folders are root's alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    touch_case(folder / "input", "BraTS-GLI-00001-000")
    (folder / "output").mkdir()
    os.chown(folder / "output", USER, GROUP)
    yield folder
    shutil.rmtree(folder)


def becomes(
    folder: Path, output: str = "output", *others: str, before: str = "", wrapper: tuple[str, ...] = ()
) -> object:
    """User, group (real, effective, saved) and groups after becoming the owner, as root of the groups 7 and 8."""
    code = f"""
import json, os
from pathlib import Path
from brats_infer.system import ownership
{before}
outputs = [Path({str(folder)!r}, name) for name in {[output, *others]!r}]
ownership.become_owner(outputs, [Path({str(folder / "input")!r}), Path("/absent")])
print({WHO})
"""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", code],
        preexec_fn=lambda: os.setgroups([7, 8]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_root_becomes_the_owner_for_good_and_leaves_its_groups(folder: Path) -> None:
    (folder / "input" / "a link to nothing").symlink_to("nowhere")
    assert becomes(folder) == OWNERS


def test_of_a_folder_yet_to_be_made_the_one_above_counts(folder: Path) -> None:
    assert becomes(folder, "output/run/1") == OWNERS
    assert becomes(folder, "new") == ROOTS


def test_roots_folder_stays_roots(folder: Path) -> None:
    os.chown(folder / "output", 0, GROUP)
    assert becomes(folder) == ROOTS


@pytest.mark.parametrize("hidden", ["input", "input/BraTS-GLI-00001-000", "input/BraTS-GLI-00001-000/*-t2w.nii.gz"])
def test_root_stays_where_the_owner_could_not_read_the_input(folder: Path, hidden: str) -> None:
    (path,) = folder.glob(hidden)
    path.chmod(0o600)
    assert becomes(folder) == ROOTS


def test_root_stays_where_the_owner_may_not_even_look(folder: Path) -> None:
    (folder / "vault").mkdir(mode=0o700)
    (folder / "vault" / "image.nii.gz").touch()
    (folder / "input" / "image.nii.gz").symlink_to(folder / "vault" / "image.nii.gz")
    assert becomes(folder) == ROOTS


def test_root_stays_where_the_owner_could_not_write(folder: Path) -> None:
    (folder / "output").chmod(0o555)
    assert becomes(folder) == ROOTS


def test_root_stays_where_the_owner_could_not_write_the_report(folder: Path) -> None:
    """As the engine makes a folder to mount that is missing: root's."""
    (folder / "report").mkdir()
    assert becomes(folder, "output", "report/run") == ROOTS
    os.chown(folder / "report", USER, 0)
    assert becomes(folder, "output", "report/run") == OWNERS


@pytest.mark.parametrize(("mode", "expected"), [(0o660, ROOTS), (0o644, ROOTS), (0o666, OWNERS)])
def test_root_stays_where_the_owner_could_not_use_a_gpu(folder: Path, mode: int, expected: object) -> None:
    gpu = folder / "nvidia0"
    (folder / "nvidia-caps").mkdir(0o755)
    try:
        os.mknod(gpu, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices can be made here")
    gpu.chmod(mode)
    assert becomes(folder, before=f"ownership.GPUS = Path({str(folder)!r}), 'nvidia*'") == expected


@pytest.mark.parametrize("lost", ["-setuid", "-setgid", "-setuid,-setgid"])
def test_without_the_capability_it_stays_as_it_is(folder: Path, lost: str) -> None:
    assert becomes(folder, wrapper=("setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}")) == ROOTS


def test_who_is_not_root_stays_who_he_is(folder: Path) -> None:
    other = "os.setgroups([]); os.setgid(999); os.setuid(999)"
    assert becomes(folder, before=other) == [[999] * 3, [999] * 3, []]


@pytest.mark.parametrize(("asked", "called"), [("1", True), ("0", False), (None, False)])
def test_only_who_asks_becomes_the_owner_and_before_anything_heavy_is_loaded(asked: str | None, called: bool) -> None:
    code = """
import sys
from pathlib import Path
from brats_infer import cli
from brats_infer.commands import infer
def become_owner(outputs, inputs):
    assert not {"numpy", "torch", "nibabel"} & set(sys.modules)
    print(*outputs, *inputs)
infer.become_owner = become_owner
infer.read_parameters = lambda path: print("parameters") or sys.exit(77)
cli.main()
"""
    args = ["infer", "--data_path=/in", "--output_path=/out", "--parameters_file=/p.yaml", "--weights=/w"]
    environment = {} if asked is None else {"BRATS_OPT_BECOME_OWNER": asked}
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (77, "")
    assert done.stdout.splitlines() == ["/out /in /w /p.yaml"] * called + ["parameters"]
