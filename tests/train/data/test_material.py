"""What a training finds in a folder, before it and in its first lines: nothing is left out without a word."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError, NoCasesError
from brats_infer.tasks import TASKS
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.labelled import labelled_ids
from brats_infer.train.data.material import Material, load_cases
from brats_infer.train.data.splits import Fold
from brats_infer.train.data.survey import survey
from tests.case_files import NAMES_2021, SHAPE, edit_header, write_case, write_image

GLI = TASKS["gli"]
IDS = [f"BraTS20_Training_35{n}" for n in range(3, 6)]


def labels_of(*values: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    for n, value in enumerate(values):
        labels[3 + n, 6:8, 4:6] = value
    return labels


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Row 6: three cases of 2020; the label map of 355 has another name."""
    for seed, case_id in enumerate(IDS):
        images = write_case(tmp_path / "data", case_id, names=NAMES_2021, ending=".nii", image=noise(seed))
        name = "W39_1998.09.19_Segm.nii" if case_id == IDS[2] else f"{case_id}_seg.nii"
        write_image(images["t1n"].with_name(name), labels_of(1, 2, 4))
    return tmp_path / "data"


def noise(seed: int) -> Callable[[int], np.ndarray]:
    def image(contrast: int) -> np.ndarray:
        data = np.zeros(SHAPE, np.float32)
        data[2:-2, 2:-2, 2:-2] = np.random.default_rng((seed, contrast)).uniform(1, 100, tuple(n - 4 for n in SHAPE))
        return data

    return image


UNLABELLED = (
    f"{IDS[2]}: has no label map {IDS[2]}-seg.nii.gz "
    "(W39_1998.09.19_Segm.nii lies beside it: rename it if it is that map)"
)


def test_a_case_whose_label_map_has_another_name_is_left_out_aloud(kaggle: Path) -> None:
    found = survey(kaggle, GLI)
    assert found.left_out == [UNLABELLED]
    assert found.lines() == [
        f"left out: {UNLABELLED}",
        "labels: 1 in 2, 2 in 2, 4 in 2",
        "grids: 12x14x10 voxels of 1x1x1 mm in 2",
        "3 cases, 1 of them left out, 2 patients",
    ]


def load(folder: Path, cache: Path, fold: Fold, **options: object) -> None:
    given = TrainOptions.model_validate({"normalisation": "zscore", **options})
    load_cases(given, fold, "gli", Material(folder, cache))


def test_a_training_says_in_three_lines_what_it_uses_and_what_not(
    kaggle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load(kaggle, tmp_path / "cache", Fold(None, (IDS[1],)))
    assert capsys.readouterr().err.splitlines() == [
        f"{kaggle}: 3 cases: 2 used, of 2 patients, 0 skipped, 1 left out",
        f"left out: {UNLABELLED}",
        "labels: WT in 2, TC in 2, ET in 2 of 2 cases; empty label maps: none",
    ]
    load(kaggle, tmp_path / "cache", Fold(1, (IDS[1],)))
    assert capsys.readouterr().err == "", "a later fold says nothing again"
    load(kaggle, tmp_path / "cache", Fold(None, ()), skip=(IDS[0],))
    assert capsys.readouterr().err.startswith(f"{kaggle}: 3 cases: 1 used, of 1 patients, 1 skipped, 1 left out\n")


def test_an_empty_label_map_is_named(kaggle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(kaggle / IDS[0] / f"{IDS[0]}_seg.nii", labels_of())
    (line,) = survey(kaggle, GLI).odd
    assert f"{IDS[0]}_seg.nii: the label map is empty" in line
    load(kaggle, tmp_path / "cache", Fold(None, ()))
    assert (
        capsys.readouterr()
        .err.splitlines()[2]
        .endswith(f"WT in 1, TC in 1, ET in 1 of 2 cases; empty label maps: {IDS[0]}")
    )


def test_twins_other_grids_odd_intensities_and_odd_labels_are_named(kaggle: Path) -> None:
    write_case(kaggle, "patient7", affine=np.diag([1, 1, 2, 1]), image=noise(9))
    write_image(kaggle / "patient7" / "patient7-seg.nii.gz", labels_of(1, 7), np.diag([1, 1, 2, 1]))
    twin = write_case(kaggle, "patient8", image=noise(8))
    write_image(kaggle / "patient8" / "patient8-seg.nii.gz", labels_of(2))
    shutil.copy(kaggle / IDS[0] / f"{IDS[0]}_t2.nii", kaggle / "patient8" / "patient8-t2w.nii")
    twin["t2w"].unlink()
    spike = noise(8)(0)
    spike[5, 5, 5] = 1e6
    write_image(twin["t1n"], spike)
    found = survey(kaggle, GLI)
    assert (found.cases, found.patients) == (5, 3)
    assert [line for line in found.left_out if "patient7-seg.nii.gz: holds the label 7" in line]
    assert dict(found.grids) == {"12x14x10 voxels of 1x1x1 mm": 3, "12x14x10 voxels of 1x1x2 mm": 1}
    assert dict(found.labels) == {1: 3, 2: 3, 4: 2, 7: 1}
    text = "\n".join(found.odd)
    assert f"{IDS[0]} and patient8: hold the same image ({IDS[0]}_t2.nii and patient8-t2w.nii): keep one" in text
    assert "patient8-t1n.nii.gz: holds a voxel of 1e+06" in text


def test_a_damaged_image_leaves_its_case_out_and_the_others_in(kaggle: Path) -> None:
    path = kaggle / IDS[0] / f"{IDS[0]}_t1ce.nii"
    path.write_bytes(path.read_bytes()[:-100])
    edit_header(kaggle / IDS[1] / f"{IDS[1]}_seg.nii", srow_x=[-1, 0, 0, 9])
    found = survey(kaggle, GLI)
    assert [line.partition(":")[0] for line in found.left_out] == [
        str(path),
        str(kaggle / IDS[1] / f"{IDS[1]}_seg.nii"),
        IDS[2],
    ]


@pytest.mark.parametrize("linked", [True, False])
def test_a_label_map_that_is_a_pointer_is_named_with_its_remedy(kaggle: Path, tmp_path: Path, linked: bool) -> None:
    path = kaggle / IDS[0] / f"{IDS[0]}_seg.nii"
    path.unlink()
    if linked:
        path.symlink_to("../.git/annex/objects/xx/none.nii")
    else:
        path.write_text("/annex/objects/SHA256E-s12--aaaa.nii\n")
    message = f"{path}: is a git-annex pointer without its image: run git annex get"
    assert survey(kaggle, GLI).left_out[0].startswith(message)
    with pytest.raises(CaseError, match=message):
        load(kaggle, tmp_path / "cache", Fold(None, ()))


def test_ids_of_another_challenge_than_the_task_are_told(tmp_path: Path) -> None:
    images = write_case(tmp_path, "BraTS-MEN-00003-000")
    write_image(images["t1n"].with_name("BraTS-MEN-00003-000-seg.nii.gz"), labels_of(1))
    assert "tell another challenge, the first BraTS-MEN-00003-000 (men)" in survey(tmp_path, GLI).odd[0]


def test_kaggles_folder_of_a_label_map_is_its_label_map(kaggle: Path) -> None:
    inner = kaggle / IDS[0] / f"{IDS[0]}_seg.nii"
    content = nib.load(inner).get_fdata().astype(np.uint8)
    inner.unlink()
    inner.mkdir()
    write_image(inner / "00000057_final.nii", content)
    assert labelled_ids(kaggle, "gli", ()) == IDS[:2]


def test_in_a_flat_folder_files_of_other_cases_are_no_label_maps(kaggle: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in kaggle.rglob("*.nii"):
        shutil.copy(path, flat / path.name)
    assert survey(flat, GLI).left_out == [UNLABELLED]


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoCasesError):
        survey(tmp_path, GLI)
