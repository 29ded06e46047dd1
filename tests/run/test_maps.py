"""From folders of images to folders of label maps."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations as nio

from brats_infer import segment
from brats_infer.cohort import segment_folder
from brats_infer.errors import UsageError
from brats_infer.labelling.label_map import Found, labels_from_probabilities
from brats_infer.network.ensemble import Ensemble
from brats_infer.phantom.write import write_cohort
from brats_infer.report.record import flags_of
from brats_infer.run.events import Events, Finished, Status
from brats_infer.settings import Mode, Settings
from model.checkpoint import write_manifest
from tests.run.runs import GLI, SHAPE, labels_in, run
from tests.small_networks import random_network, write_weights


def test_every_case_gets_a_label_map_on_its_own_grid_and_nothing_else(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "output"
    results = run(cases, output, weights)
    assert sorted(path.name for path in output.iterdir()) == [f"BraTS-GLI-0100{i}-000.nii.gz" for i in range(3)]
    assert {result.status for result in results.values()} == {Status.WRITTEN}
    for case_id in results:
        image = nib.load(cases / case_id / f"{case_id}-t1n.nii.gz")
        labels = nib.load(output / f"{case_id}.nii.gz")
        assert labels.get_data_dtype() == np.uint8
        assert labels.shape == image.shape
        np.testing.assert_array_equal(labels.affine, image.affine)
        values = np.asarray(labels.dataobj)
        assert set(np.unique(values)) <= {0, 1, 2, 3}
        assert values.any(), "a random network labels something; else this test shows nothing"


def test_same_case_gives_the_same_bytes(cases: Path, weights: Path, tmp_path: Path) -> None:
    run(cases, tmp_path / "a", weights)
    run(cases, tmp_path / "b", weights)
    written = sorted((tmp_path / "a").iterdir())
    assert len(written) == 3
    for path in written:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


AXES = [
    "".join(code) + "".join("+-"[flip] for flip in flips)
    for code, flips in zip(
        itertools.permutations("xyz"), itertools.islice(itertools.product((0, 1), repeat=3), 1, 7), strict=True
    )
]


@pytest.mark.parametrize("axes", AXES)
def test_flipped_and_permuted_axes_give_the_same_anatomy(cases: Path, weights: Path, tmp_path: Path, axes: str) -> None:
    for folder in list(cases.iterdir())[1:]:
        shutil.rmtree(folder)
    run(cases, tmp_path / "plain", weights)
    turned = np.array(
        [["xyz".index(axis), -1 if sign == "-" else 1] for axis, sign in zip(axes[:3], axes[3:], strict=True)], float
    )
    for path in cases.glob("*/*.nii.gz"):
        nib.load(path).as_reoriented(turned).to_filename(path)
    run(cases, tmp_path / "turned", weights)
    (plain,) = (nib.load(path) for path in (tmp_path / "plain").iterdir())
    (other,) = (nib.load(path) for path in (tmp_path / "turned").iterdir())
    assert not np.allclose(plain.affine, other.affine)
    same_axes = other.as_reoriented(
        nio.ornt_transform(nio.io_orientation(other.affine), nio.io_orientation(plain.affine))
    )
    np.testing.assert_array_equal(np.asarray(plain.dataobj), np.asarray(same_axes.dataobj))


def nothing(found: Found) -> Found:
    return replace(found, labels=found.labels * 0, probabilities=found.probabilities * 0)


def test_network_that_finds_nothing_writes_an_empty_map_and_says_so(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Ensemble.predict
    monkeypatch.setattr(Ensemble, "predict", lambda *args: nothing(predict(*args)))
    results = run(cases, tmp_path / "out", weights)
    assert all(result.status is Status.WRITTEN for result in results.values())
    assert all("no tumor was found" in " ".join(result.warnings) for result in results.values())
    assert not any(labels.any() for labels in labels_in(tmp_path / "out").values())


def test_probabilities_are_those_behind_the_labels(cases: Path, weights: Path, tmp_path: Path) -> None:
    whole = {"dust": 0, "component_probability": 0}
    run(cases, tmp_path / "out", weights, probabilities=tmp_path / "p", mode=Mode.SLIDING_WINDOW, **whole)
    for name, labels in labels_in(tmp_path / "out").items():
        probabilities = nib.load(tmp_path / "p" / name).get_fdata()
        assert probabilities.shape == (*SHAPE, 3)
        assert 0 <= probabilities.min() < probabilities.max() <= 1
        assert (probabilities[labels == 3].min(axis=0) >= np.array((0.45, 0.40, 0.45)) - 1 / 510).all()
        found = labels_from_probabilities(torch.from_numpy(np.moveaxis(probabilities, -1, 0)), GLI).numpy()
        assert (found == labels).mean() > 0.99, "but for holes, and roundings to a byte"
        assert len(np.unique(found)) == 4


@pytest.mark.parametrize(("mode", "flips"), [(mode, flips) for mode in Mode for flips in (False, True)])
def test_mode_and_flips_reach_the_networks(
    cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, flips: bool
) -> None:
    asked: list[tuple[object, ...]] = []
    predict = Ensemble.predict

    def watched(*given: Any) -> Found:
        asked.append((given[2].mode, given[2].flips))
        return predict(*given)

    monkeypatch.setattr(Ensemble, "predict", watched)
    run(cases, tmp_path / "out", weights, mode=mode, flips=flips)
    assert asked == [(mode, flips)] * 3


def test_shards_share_the_cases_without_overlap(cases: Path, weights: Path, tmp_path: Path) -> None:
    parts = [
        segment_folder(cases, tmp_path / "out", weights=weights, device="cpu", shard=(k, 2), settings=Settings())
        for k in (1, 2)
    ]
    assert [len(part) for part in parts] == [2, 1]
    assert len(labels_in(tmp_path / "out")) == 3


@pytest.mark.parametrize("shard", [(0, 4), (5, 4), (1, 0)])
def test_part_that_there_is_not_is_refused(cases: Path, weights: Path, tmp_path: Path, shard: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="1 <= k <= n"):
        segment_folder(cases, tmp_path / "out", weights=weights, shard=shard)


def test_folders_may_be_given_as_text(cases: Path, weights: Path, tmp_path: Path) -> None:
    settings = Settings(probabilities=str(tmp_path / "p"))  # type: ignore[arg-type] # as a notebook gives it
    segment_folder(str(cases), str(tmp_path / "out"), weights=str(weights), device="cpu", settings=settings)
    assert len(labels_in(tmp_path / "out")) == len(list((tmp_path / "p").iterdir())) == 3


def test_mixed_folder_takes_each_task_from_the_case_id(samples: Path, tmp_path: Path) -> None:
    both = Path(shutil.copytree(samples, tmp_path / "input"))
    list(write_cohort(both, "men", 1, seed=2, shape=SHAPE))
    weights = tmp_path / "weights"
    weights.mkdir()
    gli = write_weights(weights, [random_network(seed=5)])
    write_manifest(weights, [*gli, *(replace(member, task="men") for member in gli)])
    results = segment_folder(both, tmp_path / "out", weights=weights, device="cpu")
    assert [result.task for result in results] == ["gli", "gli", "gli", "men"]


def test_case_of_thick_slices_is_resampled_and_given_back_on_its_grid(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    for path in cases.glob("*01000*/*-t*.nii.gz"):
        image = nib.load(path)
        thick = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, ::3], image.affine @ np.diag([1, 1, 3, 1]))
        thick.to_filename(path)
    results = run(cases, tmp_path / "out", weights)
    assert labels_in(tmp_path / "out")["BraTS-GLI-01000-000.nii.gz"].shape == (30, 34, 9)
    assert "resampled" in " ".join(results["BraTS-GLI-01000-000"].warnings)


def test_constant_background_gives_the_map_of_the_case_with_background_0(
    cases: Path, weights: Path, tmp_path: Path
) -> None:
    """Field report constant-background: 1081 ml of tumor for 216."""
    run(cases, tmp_path / "zero", weights)
    for value, path in zip(itertools.cycle((-1, -1024)), sorted(cases.glob("*/*.nii.gz")), strict=False):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        nib.Nifti1Image(np.where(data == 0, np.int16(value), data), image.affine).to_filename(path)
    results = run(cases, tmp_path / "other", weights)
    for result in results.values():
        assert sum("its background is -1" in warning for warning in result.warnings) == 4
    expected, found = labels_in(tmp_path / "zero"), labels_in(tmp_path / "other")
    assert all(np.array_equal(labels, found[name]) for name, labels in expected.items())


def test_a_doubt_is_told_in_every_run_as_the_report_tells_it(cases: Path, weights: Path, tmp_path: Path) -> None:
    """Field report 17: only --report said that the networks are unsure."""
    results = run(cases, tmp_path / "out", weights)
    seen: dict[str, Finished] = {}
    events = Events(finished=lambda done: seen.update({done.case.id: done}))
    reported = segment_folder(cases, tmp_path / "b", task="gli", weights=weights, device="cpu", events=events)
    for result in reported:
        assert result.expected_dice == results[result.id].expected_dice
        assert result.warnings == results[result.id].warnings
        assert flags_of(result, {"WT": 1.0}) == ["unsure"]
        mean = np.mean([value for value in result.expected_dice.values() if value is not None])
        doubt = f"{result.id}: the networks are unsure of the map: its expected Dice is {mean:.2f}, below 0.73"
        assert result.warnings == (f"{doubt}: look at the images",)
        images = {name: cases / result.id / f"{result.id}-{name}.nii.gz" for name in ("t1n", "t1c", "t2w", "t2f")}
        found = segment(images, task="gli", weights=weights)
        np.testing.assert_array_equal(found.labels, seen[result.id].labelled.labels)
        assert found.expected_dice == result.expected_dice
        assert f"{result.id}: {found.warnings[-1]}" == result.warnings[-1]


def test_a_sure_map_has_no_warning(cases: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Ensemble.predict

    def sure(*given: Any) -> Found:
        found = predict(*given)
        regions = np.stack([found.labels > 0, np.isin(found.labels, (1, 3)), found.labels == 3])
        return replace(found, probabilities=regions.astype(np.float32))

    monkeypatch.setattr(Ensemble, "predict", sure)
    for result in run(cases, tmp_path / "out", weights).values():
        assert result.warnings == ()
        assert set(result.expected_dice.values()) == {1.0}
