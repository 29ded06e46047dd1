"""`brats-opt infer` on real files: one case from four files, links, numbered channels, contradicting IDs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.cohort import segment_folder
from brats_infer.errors import CaseError, UsageError
from brats_infer.files.nifti import read_case
from brats_infer.files.search.find import case_of_files
from tests.case_files import write_case, write_image
from tests.files.inputs import ID, MODALITIES
from tests.small_networks import random_network, write_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input` with one case, `weights`, and `expected` with its label map."""
    folder = tmp_path_factory.mktemp("infer")
    for name in ("input", "weights"):
        (folder / name).mkdir()
    write_case(folder / "input", ID)
    write_weights(folder / "weights", [random_network(seed=5)])
    segment_folder(folder / "input", folder / "expected", weights=folder / "weights", device="cpu")
    return folder


def brats_opt(folder: Path, *args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "entrypoint.py", "--weights", folder / "weights", *(str(arg) for arg in args)],
        env={**os.environ, "BRATS_OPT_DEVICE": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def four(folder: Path) -> dict[str, Path]:
    """{contrast: file} under names that say nothing."""
    files = {}
    for contrast in MODALITIES:
        files[contrast] = folder / f"scan {contrast}.nii.gz"
        shutil.copy(folder / "input" / ID / f"{ID}-{contrast}.nii.gz", files[contrast])
    return files


def test_one_case_from_four_files_gets_its_map_beside_them(folder: Path) -> None:
    files = four(folder)
    options = [word for contrast, path in files.items() for word in (f"--{contrast}", path)]
    output = folder / "new" / "map.nii.gz"
    done = brats_opt(folder, *options, "--output", output, "--task", "gli", "--report", folder / "new" / "report")
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == (folder / "expected" / f"{ID}.nii.gz").read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == ["map.nii.gz", "report"]
    assert (folder / "new" / "report" / "pictures" / "map.png").is_file()
    refused = brats_opt(folder, *options, "--output", output, "--input", folder / "input")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--input: is for a folder of cases: leave it out beside --t1n" in refused.stderr


@pytest.mark.parametrize(
    ("changes", "output", "task", "message"),
    [
        ({"t2f": None}, "map.nii.gz", "gli", "--t2f: is missing"),
        ({}, "map.nii", "gli", r"map\.nii: is no name of a label map"),
        ({}, "a b.nii.gz", "gli", "is no name of a label map"),
        ({"t1c": "scan t1n.nii.gz"}, "map.nii.gz", "gli", r"scan t1n\.nii\.gz: is given twice"),
        ({}, "scan t1n.nii.gz", "gli", "is no name of a label map"),
        ({"t1n": "t1n.nii.gz"}, "t1n.nii.gz", "gli", r"t1n\.nii\.gz: is given twice"),
        ({}, "map.nii.gz", "auto", "its name does not tell the challenge: give --task"),
        ({"t1c": None}, "map.nii.gz", "men-rt", "--t1c: is missing"),
    ],
)
def test_four_files_that_are_no_case_are_refused(
    tmp_path: Path, changes: dict[str, str | None], output: str, task: str, message: str
) -> None:
    names = {**{contrast: f"scan {contrast}.nii.gz" for contrast in MODALITIES}, **changes}
    images = {contrast: tmp_path / name for contrast, name in names.items() if name}
    with pytest.raises(UsageError, match=message):
        case_of_files(images, tmp_path / output, task)


def test_four_files_of_a_challenge_tell_their_task(tmp_path: Path) -> None:
    images = {contrast: tmp_path / f"BraTS-SSA-00002-000-{contrast}.nii.gz" for contrast in MODALITIES}
    case = case_of_files(images, tmp_path / "map.nii.gz")
    assert case.task is not None
    assert (case.id, case.task.name, case.paths) == ("map", "ssa", images)


def test_a_pointer_among_four_files_fails_with_its_remedy(tmp_path: Path) -> None:
    images = {contrast: tmp_path / f"{contrast}.nii.gz" for contrast in MODALITIES}
    for path in images.values():
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CaseError, match=r"t1n.nii.gz: is a Git LFS pointer without its image: run git lfs pull"):
        read_case(case_of_files(images, tmp_path / "map.nii.gz", "gli"))


def test_a_run_follows_links_unless_the_image_or_an_option_forbids_it(folder: Path, tmp_path: Path) -> None:
    """Row 18."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ID).symlink_to(folder / "input" / ID)
    common = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    done = brats_opt(folder, *common)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / f"{ID}.nii.gz").read_bytes() == (folder / "expected" / f"{ID}.nii.gz").read_bytes()
    blind = brats_opt(folder, *common, BRATS_OPT_LINKS="inside")
    assert blind.returncode == 3
    assert f"{tmp_path / 'in' / ID}: is a link, which is not followed" in blind.stderr


def test_the_image_follows_no_links() -> None:
    environment = (ROOT / "Dockerfile").read_text()
    assert "BRATS_OPT_LINKS=inside" in environment


def test_numbered_channels_are_segmented_in_the_given_order(folder: Path, tmp_path: Path) -> None:
    order = ("t2f", "t1n", "t1c", "t2w")
    (tmp_path / "imagesTs").mkdir()
    for number, contrast in enumerate(order):
        name = f"BRATS_001_000{number}.nii.gz"
        shutil.copy(folder / "input" / ID / f"{ID}-{contrast}.nii.gz", tmp_path / "imagesTs" / name)
    common = ("--input", tmp_path / "imagesTs", "--output", tmp_path / "out", "--task", "gli")
    done = brats_opt(folder, *common, "--channels", "FLAIR,T1w,t1gd,t2w")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "BRATS_001.nii.gz").read_bytes() == (folder / "expected" / f"{ID}.nii.gz").read_bytes()
    refused = brats_opt(folder, *common, "--channels", "t1n,t1n,t2w,t2f")
    assert refused.returncode == 2
    assert "does not name the four contrasts once each" in refused.stderr


def test_a_task_that_contradicts_the_ids_is_told_once(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 5."""
    for case_id in (ID, "BraTS-MEN-00003-000", "BraTS-MEN-00004-000", "patient7"):
        write_case(tmp_path / "in", case_id)
    segment_folder(tmp_path / "in", tmp_path / "out", task="gli", weights=folder / "weights", device="cpu")
    (line,) = caplog.messages
    assert line == "warning: --task gli: 2 of 4 case IDs tell another challenge, the first BraTS-MEN-00003-000 (men)"


def test_a_4d_image_is_segmented_as_its_four_contrasts_are(folder: Path, tmp_path: Path) -> None:
    order = ("t2f", "t1n", "t1c", "t2w")
    images = [nib.load(folder / "input" / ID / f"{ID}-{contrast}.nii.gz") for contrast in order]
    (tmp_path / "imagesTr").mkdir()
    stacked = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    write_image(tmp_path / "imagesTr" / "BRATS_001.nii.gz", stacked, images[0].affine)
    write_image(
        tmp_path / "imagesTr" / "BRATS_002.nii.gz", stacked * np.array([1, 1, 0, 1], stacked.dtype), images[0].affine
    )
    write_image(tmp_path / "imagesTr" / "BRATS_003.nii.gz", stacked[..., :3], images[0].affine)
    paths = ("--input", tmp_path / "imagesTr", "--output", tmp_path / "out", "--task", "gli")
    paths = (*paths, "--channels", ",".join(order))

    done = brats_opt(folder, *paths, "--report", tmp_path / "report")

    assert done.returncode == 3, done.stderr
    assert "BRATS_002.nii.gz:t1c: every voxel is 0" in done.stderr
    assert "BRATS_003.nii.gz: its shape is (12, 14, 10, 3), not one of 4 volumes as --channels says" in done.stderr
    expected = (folder / "expected" / f"{ID}.nii.gz").read_bytes()
    assert (tmp_path / "out" / "BRATS_001.nii.gz").read_bytes() == expected
    again = brats_opt(folder, *paths, "--report", tmp_path / "again", "--resume")
    assert (tmp_path / "again" / "pictures" / "BRATS_001.png").is_file(), again.stderr
    blank = brats_opt(folder, *paths, "--on-error", "blank")
    assert blank.returncode == 0, blank.stderr
    assert nib.load(tmp_path / "out" / "BRATS_002.nii.gz").shape == (12, 14, 10)


def test_check_finds_the_cases_that_the_run_found(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, contrast in enumerate(MODALITIES):
        shutil.copy(folder / "input" / ID / f"{ID}-{contrast}.nii.gz", tmp_path / "in" / f"case_{number:04}.nii.gz")
    paths = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--task", "gli")
    paths = (*paths, "--channels", ",".join(MODALITIES))
    assert brats_opt(folder, *paths, "--report", tmp_path / "report").returncode == 0
    done = brats_opt(folder, *paths, "--report", tmp_path / "again", "--resume")
    assert (tmp_path / "again" / "pictures" / "case.png").is_file(), done.stderr

    checked = subprocess.run(
        [sys.executable, ROOT / "entrypoint.py", "check", *map(str, paths)], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "0 errors, 1 warnings")
