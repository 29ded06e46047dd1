"""The image under the conditions seen in the field, the hardest ones together."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from brats_infer.files.check import check_output
from brats_infer.files.labels import read_labels
from tests.case_files import raw_header
from tests.container.engine import IMAGE, OFFLINE, ONE_THREAD, SECONDS, command, contents, docker, folders, run

HARDEST = (
    *("--read-only", "--user", "12345:12345", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "128", "--memory", "16g", "--shm-size", "64m"),
)
ON_DISK = {"root": (0, 0), "user": (1000, 1001)}


def owners(folder: Path) -> set[tuple[int, int]]:
    return {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}


def test_hardest_conditions_together(small: Path, output: Path, expected: dict[str, bytes]) -> None:
    """No root, no network, no capability, no /tmp, no HOME, few processes, little shared memory, read-only input."""
    os.chown(output, 12345, 12345)
    done = run(volumes=folders(small, output), options=HARDEST)
    assert done.returncode == 0, done.stderr
    assert contents(output) == expected
    assert owners(output) == {(12345, 12345)}
    warnings = [line for line in done.stderr.splitlines() if "warning" in line.lower()]
    known = ("usable CUDA devices: the CPU is used", "the networks are unsure of the map")  # the case is synthetic
    assert [line for line in warnings if not any(text in line for text in known)] == []


def test_nothing_is_written_but_to_the_output_folder(small: Path, output: Path) -> None:
    """As root on a writable file system, which would let it."""
    source, target = folders(small, output)
    container = docker("create", *ONE_THREAD, "--network", "none", "-v", source, "-v", target, IMAGE)
    try:
        docker("start", "--attach", container)
        changes = docker("diff", container).splitlines()
    finally:
        docker("rm", "--force", container)
    assert set(changes) <= {"A /input", "A /output"}  # where the folders are mounted


@pytest.mark.parametrize("owner", ON_DISK.values(), ids=ON_DISK)
def test_files_belong_to_the_owner_of_the_output_folder(
    small: Path, output: Path, expected: dict[str, bytes], owner: tuple[int, int]
) -> None:
    os.chown(output, *owner)
    done = run(volumes=folders(small, output))
    assert done.returncode == 0, done.stderr
    assert contents(output) == expected
    assert owners(output) == {owner}


def test_root_stays_root_where_the_owner_could_not_read_the_input(small: Path, output: Path, tmp_path: Path) -> None:
    private = Path(shutil.copytree(small, tmp_path / "private"))
    private.chmod(0o700)
    os.chown(output, 1000, 1001)
    done = run(volumes=folders(private, output))
    assert done.returncode == 0, done.stderr
    assert (owners(output), check_output(small, output)) == ({(0, 0)}, [])


def test_root_without_capabilities_goes_on_as_it_is(small: Path, output: Path) -> None:
    os.chown(output, 1000, 1001)
    output.chmod(0o777)
    done = run(volumes=folders(small, output), options=("--cap-drop", "ALL"))
    assert done.returncode == 0, done.stderr
    assert (owners(output), check_output(small, output)) == ({(0, 0)}, [])


def test_an_output_folder_that_the_user_cannot_write_is_said_at_once(small: Path, output: Path) -> None:
    done = run(volumes=folders(small, output), options=("--user", "12345:12345"))
    assert (done.returncode, contents(output)) == (6, {})
    assert "/output: cannot be written" in done.stderr


def test_the_report_goes_into_a_folder_that_the_engine_makes(small: Path, output: Path, tmp_path: Path) -> None:
    """As root's, which the output folder's owner could not write to."""
    os.chown(output, 1000, 1001)
    done = run("--report", "/report", volumes=(*folders(small, output), f"{tmp_path}/report:/report"))
    assert done.returncode == 0, done.stderr
    assert (check_output(small, output), (tmp_path / "report" / "index.html").is_file()) == ([], True)


def test_a_schedulers_variables_leave_no_case_out_unless_they_are_asked_for(
    small: Path, output: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    first = ("-e", "RANK=0", "-e", "WORLD_SIZE=2")
    done = run(volumes=folders(small, output), options=first)
    assert done.returncode == 0, done.stderr
    assert contents(output) == expected
    part = tmp_path / "part"
    part.mkdir()
    done = run("--shard", "auto", volumes=folders(small, part), options=first)
    assert done.returncode == 0, done.stderr
    assert sorted(contents(part)) == sorted(expected)[::2]


def test_a_stop_in_the_middle_leaves_whole_files_and_resume_writes_the_rest(many: Path, output: Path) -> None:
    name = f"brats-opt-stop-{os.getpid()}"
    options = ("--name", name)
    with subprocess.Popen(command(volumes=folders(many, output), options=options), stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + SECONDS
        while not any(output.glob("*.nii.gz")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = time.monotonic()
        docker("stop", "--time", 60, name)
        stopped_in = time.monotonic() - began
        _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 143, stderr
    assert b"--resume" in stderr
    assert stopped_in < 10, "longer than `docker stop` waits before it kills"
    written = contents(output)
    assert 0 < len(written) < len(list(many.iterdir()))
    assert all(finding.message.endswith("again") for finding in check_output(many, output)), "nothing but missing files"
    done = run("--resume", volumes=folders(many, output))
    assert (done.returncode, done.stderr.count(": skipped")) == (0, len(written))
    assert check_output(many, output) == []


def test_a_second_run_over_the_same_output_writes_the_same(
    small: Path, output: Path, expected: dict[str, bytes]
) -> None:
    """Over a whole map and one of another content, as an earlier version may have left it."""
    first, second = expected
    (output / first).write_bytes(expected[first])
    (output / second).write_bytes(b"of an earlier version")
    done = run(volumes=folders(small, output))
    assert done.returncode == 0, done.stderr
    assert contents(output) == expected


@pytest.fixture
def one_broken(small: Path, tmp_path: Path) -> Path:
    """The small cases, one of them with T1c and FLAIR cut short: too few are left to segment it from."""
    folder = Path(shutil.copytree(small, tmp_path / "input"))
    cut_short(folder, "t1c")
    cut_short(folder, "t2f")
    return folder


def cut_short(folder: Path, contrast: str) -> None:
    image = folder / "BraTS-GLI-01000-000" / f"BraTS-GLI-01000-000-{contrast}.nii.gz"
    image.write_bytes(image.read_bytes()[:-2000])


def test_a_case_with_one_broken_image_is_segmented_from_the_others(
    small: Path, tmp_path: Path, output: Path, expected: dict[str, bytes]
) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "input"))
    cut_short(folder, "t1n")
    done = run(volumes=folders(folder, output))
    assert done.returncode == 0, done.stderr
    assert "t1n cannot be used" in done.stderr
    assert "the map is made from the other contrasts" in done.stderr
    assert contents(output).keys() == expected.keys()
    assert contents(output)["BraTS-GLI-01001-000.nii.gz"] == expected["BraTS-GLI-01001-000.nii.gz"]


def test_a_broken_case_gets_a_blank_map_and_the_others_theirs(
    one_broken: Path, output: Path, expected: dict[str, bytes]
) -> None:
    done = run(volumes=folders(one_broken, output))
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if "blank" in line)
    assert "BraTS-GLI-01000-000-t" in line
    blank, good = "BraTS-GLI-01000-000.nii.gz", "BraTS-GLI-01001-000.nii.gz"
    assert contents(output).keys() == expected.keys()
    assert contents(output)[good] == expected[good]
    assert raw_header(output / blank)["dim"].tolist() == raw_header(output / good)["dim"].tolist()
    assert [finding.warning for finding in check_output(one_broken, output)] == [True], "that one map is empty"


def test_the_policy_built_in_gives_way_to_the_command_line(one_broken: Path, output: Path) -> None:
    done = run("--on-error", "fail", volumes=folders(one_broken, output))
    assert (done.returncode, list(contents(output))) == (3, ["BraTS-GLI-01001-000.nii.gz"])


@pytest.fixture
def volume_names() -> Iterator[tuple[str, str]]:
    names = f"brats-opt-in-{os.getpid()}", f"brats-opt-out-{os.getpid()}"
    yield names
    docker("volume", "rm", "--force", *names)


def test_named_volumes_fresh_and_used(
    small: Path, output: Path, volume_names: tuple[str, str], expected: dict[str, bytes]
) -> None:
    """`-v in:/input -v out:/output`: the engine makes the volumes, of root; the second run finds the first one's."""
    inputs, outputs = volume_names
    volumes = (f"{inputs}:/input", f"{outputs}:/output")
    empty = run(volumes=volumes)
    assert (empty.returncode, "/input: holds no case" in empty.stderr) == (4, True)
    copy = ("docker", "run", *OFFLINE, "--entrypoint", "cp")
    fill = (*copy, "-v", f"{small}:/from:ro", "-v", f"{inputs}:/to", IMAGE, "-r", "/from/.", "/to")
    fetch = (*copy, "-v", f"{outputs}:/from:ro", "-v", f"{output}:/to", IMAGE, "-r", "/from/.", "/to")
    subprocess.run(fill, check=True, timeout=SECONDS)
    for _ in ("fresh", "used"):
        done = run(volumes=volumes)
        assert done.returncode == 0, done.stderr
        subprocess.run(fetch, check=True, timeout=SECONDS)
        assert contents(output) == expected


def test_a_link_out_of_the_input_is_not_followed(small: Path, output: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "input"))
    case_id = "BraTS-GLI-01000-000"
    shutil.rmtree(folder / case_id)
    (folder / case_id).symlink_to(f"/elsewhere/{case_id}")
    volumes = (*folders(folder, output), f"{small}:/elsewhere:ro")
    done = run(volumes=volumes)
    assert done.returncode == 0, done.stderr
    assert f"{case_id}: is a link, which is not followed" in done.stderr
    assert not read_labels(output / f"{case_id}.nii.gz")[0].any()
    assert "blank" not in run("--links", "follow", volumes=volumes).stderr
