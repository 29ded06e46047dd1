"""Scans that show a part of the brain only."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom

from brats_infer import prepare
from brats_infer.preparation.masks.coverage import coverages
from brats_infer.settings import PrepareOptions
from tests.preparation.scans import SEMI_AXES, image_of, write_study

WHOLE = image_of(np.ones((100, 100, 100), np.float32), (3.0, 3.0, 3.0))
NO_MOVE = sitk.AffineTransform(3)


def ellipsoid(shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> sitk.Image:
    """The probability of a brain with its middle at `shift`, on a grid that holds it."""
    x, y, z = np.meshgrid(*[(np.arange(100) - 49.5) * 3] * 3, indexing="ij")
    places = zip((x, y, z), shift, SEMI_AXES, strict=True)
    return image_of((sum(((p - s) / semi) ** 2 for p, s, semi in places) < 1).astype(np.float32), (3.0, 3.0, 3.0))


def above(height: float) -> sitk.Image:
    """A scan of all voxels above a height in mm."""
    first = round((height + 150) / 3)
    return WHOLE[:, :, first:]


@pytest.mark.parametrize("height", [-40.0, -20.0, 0.0, 25.0])
def test_share_of_an_ellipsoid_above_a_plane_is_that_of_the_formula(height: float) -> None:
    found = coverages(
        {"t1c": WHOLE, "t2f": above(height)},
        {"t1c": ellipsoid(), "t2f": ellipsoid()[:, :, round((height + 150) / 3) :]},
        dict.fromkeys(("t1c", "t2f"), NO_MOVE),
        (0.0, 0.0, 0.0),
        None,
    )
    t = height / SEMI_AXES[2]
    assert found["t1c"] == 1
    assert found["t2f"] == pytest.approx(
        (2 + t) * (1 - t) ** 2 / 4 if t > 0 else 1 - (2 - t) * (1 + t) ** 2 / 4, abs=0.02
    )


def test_field_of_view_follows_the_transform_and_leaves_out_an_empty_half() -> None:
    values = sitk.GetArrayFromImage(WHOLE)
    values[:50] = 0
    padded = sitk.GetImageFromArray(values)
    padded.CopyInformation(WHOLE)
    moved = sitk.AffineTransform([1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 29.0])
    for transform, share in ((NO_MOVE, 0.5), (moved, 27 / 32)):  # half a semi-axis further up
        brains = {"t1c": ellipsoid(), "t2f": ellipsoid((0.0, 0.0, transform.GetTranslation()[2]))}
        images, transforms = {"t1c": WHOLE, "t2f": padded}, {"t1c": NO_MOVE, "t2f": transform}
        found = coverages(images, brains, transforms, (0.0, 0.0, 0.0), None)
        assert found["t2f"] == pytest.approx(share, abs=0.02)


def test_template_is_the_brain_where_no_scan_sees() -> None:
    half, brain = above(0.0), ellipsoid()[:, :, 50:]
    given = ({"t1c": half}, {"t1c": brain}, {"t1c": NO_MOVE}, (0.0, 0.0, 0.0))
    assert coverages(*given, None)["t1c"] == 1
    assert 0.5 < coverages(*given, ellipsoid())["t1c"] < 0.65


def _cut(path: Path, share: float) -> None:
    """Leaves the upper slices, which hold a share of the brain's extent. An empty last slice: it counts as stripped."""
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image)
    filled = np.flatnonzero(values.any(axis=(1, 2)))
    first = filled[0] + round((1 - share) * len(filled))
    values[first] = 0
    kept = sitk.GetImageFromArray(values)
    kept.CopyInformation(image)
    sitk.WriteImage(kept[:, :, int(first) :], str(path))


def test_cut_scan_is_left_out_and_a_partial_one_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_study(tmp_path / "studies" / "one", ("t1c", "t2w", "t2f"))
    _cut(tmp_path / "studies" / "one" / "t2f.nii.gz", 0.55)
    _cut(tmp_path / "studies" / "one" / "t2w.nii.gz", 0.8)
    (outcome,) = prepare(tmp_path / "studies", tmp_path / "cases", PrepareOptions(atlas="none", missing="use"))
    assert outcome.problem is None
    record = json.loads((tmp_path / "cases" / "one" / "prepare.json").read_text())
    assert list(record["contrasts"]) == ["t1c", "t2w"]
    left_out, partial = record["notes"]
    assert left_out.startswith("t2f (t2f.nii.gz) covers 5")
    assert left_out.endswith(" % of the brain, and was left out")
    assert partial == f"t2w (t2w.nii.gz) covers {100 * record['contrasts']['t2w']['coverage']:.0f} % of the brain"
    assert 0.8 < record["contrasts"]["t2w"]["coverage"] < 0.95 < record["contrasts"]["t1c"]["coverage"]
    assert [f"one: {note}" in caplog.messages for note in record["notes"]] == [True, True]


def test_study_whose_needed_contrast_is_cut_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "one"
    write_study(folder, ("t1n", "t1c"))
    _cut(folder / "t1c.nii.gz", 0.6)
    (outcome,) = prepare(tmp_path / "studies", tmp_path / "cases", PrepareOptions(atlas="none", missing="use"))
    assert outcome.problem is not None
    what, remedy = outcome.problem.split(": ", 2)[1:]
    assert re.fullmatch(r"t1c \(t1c\.nii\.gz\) covers 6\d % of the brain", what)
    assert remedy == "choose another one by --series t1c=…, or leave it out by --missing use"
    assert not (tmp_path / "cases" / "one").exists()
