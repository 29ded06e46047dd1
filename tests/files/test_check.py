"""Every way in which an output folder can break the contract is found, and said in a line."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.files.check import check_output
from brats_infer.phantom.write import write_cohort
from tests.case_files import edit_header, unpacked

SHAPE = (12, 14, 10)
FIRST = "BraTS-GLI-01000-000.nii.gz"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input` with two cases and `output` with their own labels."""
    folder = tmp_path_factory.mktemp("check")
    (folder / "output").mkdir()
    for case_id in write_cohort(folder / "input", "gli", 2, seed=1, shape=SHAPE):
        shutil.copy(folder / "input" / case_id / f"{case_id}-seg.nii.gz", folder / "output" / f"{case_id}.nii.gz")
    return folder


def rewritten(change: Callable[[nib.Nifti1Image], nib.Nifti1Image]) -> Callable[[Path], None]:
    """A damage that loads a file with nibabel and saves what `change` makes of it."""

    def damage(output: Path) -> None:
        image = nib.load(output / FIRST)
        content = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
        change(content).to_filename(output / FIRST)

    return damage


def described(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.header["descrip"] = b"patient 7"
    return image


def extended(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"patient 7"))
    return image


def with_label_7(image: nib.Nifti1Image) -> nib.Nifti1Image:
    data = np.asarray(image.dataobj).copy()
    data[0, 0, 0] = 7
    return nib.Nifti1Image(data, image.affine, image.header)


def with_other_code(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.set_sform(image.affine, code=2)
    return image


def with_other_qform(image: nib.Nifti1Image) -> nib.Nifti1Image:
    affine = image.affine.copy()
    affine[0, 3] += 1
    image.set_qform(affine, code=1)
    return image


def as_float(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.set_data_dtype(np.float32)
    return image


def with_half_a_label(image: nib.Nifti1Image) -> nib.Nifti1Image:
    data = np.asarray(image.dataobj, np.float32).copy()
    data[0, 0, 0] = 0.5
    return nib.Nifti1Image(data, image.affine)


def in_four_dimensions(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(image.dataobj)[..., None], image.affine, image.header)


def linked(output: Path) -> None:
    (output / FIRST).rename(output.parent / FIRST)
    (output / FIRST).symlink_to(output.parent / FIRST)


def cut(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.slicer[:-1]


def moved(image: nib.Nifti1Image, mm: float = 1.0) -> nib.Nifti1Image:
    affine = image.affine.copy()
    affine[0, 3] += mm
    return nib.Nifti1Image(np.asarray(image.dataobj), affine)


def emptied(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine, image.header)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda output: (output / FIRST).unlink(), "is missing"),
    "extra": (lambda output: (output / "report.json").touch(), "belongs to no case"),
    "leftover": (lambda output: (output / ".brats-opt-abc").touch(), "belongs to no case"),
    "folder": (lambda output: (output / "report").mkdir(), ": move it elsewhere"),
    "wrong name": (lambda output: (output / FIRST).rename(output / "BraTS-GLI-7.nii.gz"), "belongs to no case"),
    "wrong ending": (
        lambda output: (output / FIRST).rename(output / FIRST.replace(".nii", "-seg.nii")),
        f"rename it to {FIRST}",
    ),
    "folder of that name": (lambda output: [(output / FIRST).unlink(), (output / FIRST).mkdir()], "cannot be read"),
    "link": (linked, "is a link"),
    "web page": (lambda output: (output / FIRST).write_text("<html>"), "a web page"),
    "not packed": (lambda output: (output / FIRST).write_bytes(unpacked(output / FIRST)), "not gzip-compressed"),
    "truncated": (lambda output: (output / FIRST).write_bytes((output / FIRST).read_bytes()[:-9]), "cannot be read"),
    "type": (rewritten(as_float), "not uint8"),
    "no label": (rewritten(with_half_a_label), "no labels"),
    "scale": (lambda output: edit_header(output / FIRST, scl_slope=2), "scales the labels"),
    "scale of labels": (lambda output: edit_header(output / FIRST, scl_slope=1.0000153), "scales the labels"),
    "dimensions": (rewritten(in_four_dimensions), "4 dimensions"),
    "shape": (rewritten(cut), "shape"),
    "affine": (rewritten(moved), "affine"),
    "affine by micrometres": (rewritten(partial(moved, mm=0.004)), "its affine differs by 0.004 mm from that of the"),
    "code": (rewritten(with_other_code), "sform_code"),
    "qform": (rewritten(with_other_qform), "its qform"),
    "label": (rewritten(with_label_7), "[7]"),
    "description": (rewritten(described), "patient data"),
    "extension": (rewritten(extended), "extensions"),
    "range": (lambda output: edit_header(output / FIRST, cal_max=3), "cal_max"),
    "name of a patient": (lambda output: edit_header(output / FIRST, db_name=b"Doe, Jane"), "db_name"),
    "intent": (lambda output: edit_header(output / FIRST, intent_name=b"mask"), "intent_name"),
}


def test_good_folder_has_no_finding(good: Path) -> None:
    assert check_output(good / "input", good / "output") == []


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_names_the_file(good: Path, tmp_path: Path, name: str) -> None:
    output = Path(shutil.copytree(good / "output", tmp_path / "output"))
    damage, expected = DAMAGES[name]
    damage(output)
    messages = [finding.message for finding in check_output(good / "input", output) if not finding.warning]
    assert messages
    assert any(expected in message for message in messages), messages
    assert all(message.startswith(str(output)) for message in messages)


def test_missing_map_of_a_case_that_cannot_be_segmented_says_why(good: Path, tmp_path: Path) -> None:
    cases = Path(shutil.copytree(good / "input", tmp_path / "input"))
    (cases / "BraTS-GLI-01000-000" / "BraTS-GLI-01000-000-t1c.nii.gz").unlink()
    (finding, _) = check_output(cases, tmp_path / "absent")
    assert "is missing" in finding.message
    assert "lacks t1c" in finding.message


def test_empty_map_is_a_warning(good: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(good / "output", tmp_path / "output"))
    rewritten(emptied)(output)
    (finding,) = check_output(good / "input", output)
    assert finding.warning
    assert "is empty" in finding.message


def test_absent_output_folder_lacks_every_case(good: Path, tmp_path: Path) -> None:
    assert len(check_output(good / "input", tmp_path / "absent")) == 2


def test_several_faults_of_one_file_are_a_line_each(good: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(good / "output", tmp_path / "output"))
    for change in (moved, with_half_a_label, described):
        rewritten(change)(output)
    messages = [finding.message for finding in check_output(good / "input", output)]
    expected = ("not uint8", "not fresh", "no labels")
    assert [word in line for line, word in zip(messages, expected, strict=True)] == [True] * 3
    assert all(len(message.splitlines()) == 1 for message in messages)


def test_name_that_organizers_may_refuse_is_a_warning(good: Path, tmp_path: Path) -> None:
    cases = Path(shutil.copytree(good / "input", tmp_path / "input"))
    output = Path(shutil.copytree(good / "output", tmp_path / "output"))
    for path in cases.glob("BraTS-GLI-01000-000/*"):
        path.rename(path.with_name(path.name.replace("BraTS-GLI-01000-000", "patient7")))
    (output / FIRST).rename(output / "patient7.nii.gz")
    (finding,) = check_output(cases, output, "gli")
    assert finding.warning
    assert "ddddd-ddd.nii.gz" in finding.message
