"""What an earlier run left: kept with --resume where it is whole, removed where the case fails now."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.cohort import segment_folder
from brats_infer.errors import OutputError
from brats_infer.run.events import Status
from brats_infer.settings import OnError, Settings
from tests.run.runs import labels_in, run


def test_resume_keeps_whole_maps_and_makes_damaged_ones_again(cases: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(cases, output, weights)
    first, second, third = sorted(output.iterdir())
    expected = second.read_bytes()
    second.write_bytes(expected[:-20])
    third.unlink()
    before = first.stat().st_mtime_ns
    results = run(cases, output, weights, resume=True)
    assert [result.status for result in results.values()] == [Status.SKIPPED, Status.WRITTEN, Status.WRITTEN]
    assert first.stat().st_mtime_ns == before
    assert second.read_bytes() == expected


def test_resume_makes_maps_again_that_break_the_contract(cases: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(cases, output, weights)
    written = {path.name: path.read_bytes() for path in output.iterdir()}
    first, second, _ = sorted(output.iterdir())
    image = nib.load(first)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj, np.float32), image.affine, image.header), first)
    second.rename(tmp_path / "elsewhere.nii.gz")
    second.symlink_to(tmp_path / "elsewhere.nii.gz")
    results = run(cases, output, weights, resume=True)
    assert [result.status for result in results.values()] == [Status.WRITTEN, Status.WRITTEN, Status.SKIPPED]
    assert {path.name: path.read_bytes() for path in output.iterdir()} == written
    assert not second.is_symlink()


def test_resume_tries_a_case_again_that_was_left_blank(cases: Path, weights: Path, tmp_path: Path) -> None:
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:-100])
    results = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK)
    assert results["BraTS-GLI-01001-000"].status is Status.BLANK
    again = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK, resume=True)
    assert again["BraTS-GLI-01001-000"].status is Status.BLANK, "still broken, and still said"
    broken.write_bytes(content)
    mended = run(cases, tmp_path / "out", weights, on_error=OnError.BLANK, resume=True)
    assert [result.status for result in mended.values()] == [Status.SKIPPED, Status.WRITTEN, Status.SKIPPED]


def test_resume_keeps_a_whole_map_whatever_became_of_the_images(cases: Path, weights: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "out", weights)
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    first, second, third = sorted(cases.iterdir())
    (first / f"{first.name}-t2w.nii.gz").unlink()
    (first / f"{first.name}-t1n.nii.gz").write_bytes(b"damaged since")
    shutil.rmtree(second)
    second.mkdir()
    shutil.copytree(third, cases / "again" / third.name)  # of which of the two is its map?
    settings = Settings(resume=True, on_error=OnError.BLANK)
    results = segment_folder(cases, tmp_path / "out", task="gli", weights=weights, device="cpu", settings=settings)
    assert [result.status for result in results] == [Status.SKIPPED, Status.SKIPPED, Status.BLANK, Status.BLANK]
    kept = {name: content for name, content in written.items() if not name.startswith(third.name)}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}.items() >= kept.items()


def test_resume_looks_at_the_grid_of_the_images_and_of_probabilities(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    settings = {"resume": True, "probabilities": tmp_path / "p"}
    run(cases, tmp_path / "out", weights, **settings)
    (cases / "BraTS-GLI-01000-000" / "BraTS-GLI-01000-000-t1n.nii.gz").write_bytes(b"damaged since")
    for name in ("t1c", "t2w", "t2f"):
        path = cases / "BraTS-GLI-01000-000" / f"BraTS-GLI-01000-000-{name}.nii.gz"
        image = nib.load(path)
        nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3)).to_filename(path)
    moved = tmp_path / "p" / "BraTS-GLI-01001-000.nii.gz"
    image = nib.load(moved)
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3), image.header).to_filename(moved)
    results = run(cases, tmp_path / "out", weights, **settings)
    assert [result.status for result in results.values()] == [Status.FAILED, Status.WRITTEN, Status.SKIPPED]


def test_probabilities_of_a_case_that_fails_now_are_removed_and_those_missing_are_made(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    names = {f"BraTS-GLI-0100{i}-000.nii.gz" for i in range(3)}
    run(cases, tmp_path / "out", weights)
    resumed = run(cases, tmp_path / "out", weights, resume=True, probabilities=tmp_path / "p")
    assert {result.status for result in resumed.values()} == {Status.WRITTEN}
    assert {path.name for path in (tmp_path / "p").iterdir()} == names
    again = run(cases, tmp_path / "out", weights, resume=True, probabilities=tmp_path / "p")
    assert {result.status for result in again.values()} == {Status.SKIPPED}
    whole = {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    for name, content in zip(sorted(names), (b"", None, whole[min(names)][:300]), strict=True):
        if content is not None:
            (tmp_path / "p" / name).write_bytes(content)
    mended = run(cases, tmp_path / "out", weights, resume=True, probabilities=tmp_path / "p")
    assert [result.status for result in mended.values()] == [Status.WRITTEN, Status.SKIPPED, Status.WRITTEN]
    assert {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()} == whole
    (cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz").unlink()
    for policy in OnError:
        (tmp_path / "p" / "BraTS-GLI-01001-000.nii.gz").touch()
        run(cases, tmp_path / "out", weights, probabilities=tmp_path / "p", on_error=policy)
        assert {path.name for path in (tmp_path / "p").iterdir()} == names - {"BraTS-GLI-01001-000.nii.gz"}


def test_older_map_of_a_case_that_fails_now_is_removed_and_said(cases: Path, weights: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "out", weights)
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-100])
    result = run(cases, tmp_path / "out", weights)["BraTS-GLI-01001-000"]
    assert result.message.endswith("(its map of an earlier run was removed)")
    assert sorted(labels_in(tmp_path / "out")) == ["BraTS-GLI-01000-000.nii.gz", "BraTS-GLI-01002-000.nii.gz"]
    again = run(cases, tmp_path / "out", weights)["BraTS-GLI-01001-000"]
    assert "removed" not in again.message


def test_older_map_that_cannot_be_removed_ends_the_run(cases: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "BraTS-GLI-01001-000.nii.gz").mkdir(parents=True)
    broken = cases / "BraTS-GLI-01001-000" / "BraTS-GLI-01001-000-t2w.nii.gz"
    broken.unlink()
    with pytest.raises(OutputError, match=r"BraTS-GLI-01001-000\.nii\.gz: is of an earlier run and cannot be removed"):
        run(cases, tmp_path / "out", weights)


def test_resume_makes_a_map_on_another_grid_again(cases: Path, weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(cases, output, weights)
    moved = output / "BraTS-GLI-01001-000.nii.gz"
    expected = moved.read_bytes()
    image = nib.load(moved)
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.eye(4, k=3)).to_filename(moved)
    results = run(cases, output, weights, resume=True)
    assert [result.status for result in results.values()] == [Status.SKIPPED, Status.WRITTEN, Status.SKIPPED]
    assert moved.read_bytes() == expected
