"""Training cases from real files: what is found, what is held out, what is refused."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from brats_infer.errors import CaseError, OutputError, UsageError
from brats_infer.image.crop import CROP_MARGIN
from brats_infer.image.normalise import Normalisation, histogram_reference, normalise
from brats_infer.train.data import dataset as data
from brats_infer.train.data.dataset import Split, load_split

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (20, 18, 16)
BRAIN = (slice(6, 14), slice(5, 13), slice(5, 11))
IDS = [f"BraTS-GLI-0000{i}-000" for i in range(4)]


def write(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def images_of(seed: int) -> NDArray[np.float32]:
    images = np.zeros((4, *SHAPE), np.float32)
    images[:, *BRAIN] = np.random.default_rng(seed).uniform(-50, 400, (4, 8, 8, 6))
    return images


def labels_of() -> NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:12, 7:11, 6:10], labels[9:11, 8:10, 7:9], labels[10, 9, 8] = 2, 1, 3
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in one tree and label maps in another, as they are shared; the last case has no label map."""
    for seed, case_id in enumerate(IDS):
        for name, image in zip(("t1n", "t1c", "t2w", "t2f"), images_of(seed), strict=True):
            write(tmp_path / "images" / case_id / f"{case_id}-{name}.nii.gz", image)
    for case_id in IDS[:-1]:
        write(tmp_path / "labels" / f"{case_id}-seg.nii.gz", labels_of())
    return tmp_path


def load(
    folder: Path,
    hold_out: Sequence[str] = (),
    skip: Sequence[str] = (),
    normalisation: Normalisation = Normalisation.RESCALE,
) -> Split:
    return load_split(folder, "gli", hold_out, skip, normalisation, folder.parent / f"{folder.name} cache")


def test_every_case_with_a_label_map_is_on_one_side(folder: Path) -> None:
    split = load(folder, hold_out=[IDS[1]])
    assert [case.id for case in split.training] == [IDS[0], IDS[2]]
    assert [case.id for case in split.validation] == [IDS[1]]
    assert split.histogram is None
    assert [case.id for case in load(folder, skip=[IDS[0]]).training] == [IDS[1], IDS[2]]


def test_case_is_what_the_network_sees(folder: Path) -> None:
    case = load(folder).training[0]
    box = tuple(slice(side.start - CROP_MARGIN, side.stop + CROP_MARGIN) for side in BRAIN)
    raw = images_of(0)[:, *box]
    brain = (raw != 0).any(axis=0)
    np.testing.assert_allclose(case.image[:4].numpy(), normalise(raw, Normalisation.RESCALE), rtol=0, atol=5e-4)
    assert np.array_equal(case.image[4].numpy(), brain.astype(np.float16))
    labels = labels_of()[box]
    for mask, inside in zip(case.regions.numpy(), ((1, 2, 3), (1, 3), (3,)), strict=True):
        assert np.array_equal(mask, np.isin(labels, inside))


def test_label_map_turns_with_its_images(folder: Path) -> None:
    upright = load(folder).training[0]
    for path in folder.rglob(f"{IDS[0]}-*.nii.gz"):
        image = nib.load(path)
        turned = np.asarray(image.dataobj)[::-1].transpose(2, 0, 1)
        affine = np.zeros((4, 4))
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = AFFINE[:3, 2], -AFFINE[:3, 0], AFFINE[:3, 1]
        affine[:, 3] = AFFINE @ [SHAPE[0] - 1, 0, 0, 1]
        write(path, np.ascontiguousarray(turned), affine)
    turned_case = load(folder).training[0]
    assert np.array_equal(turned_case.image, upright.image)
    assert np.array_equal(turned_case.regions, upright.regions)


def test_histogram_reference_is_made_of_the_training_cases_only(folder: Path) -> None:
    split = load(folder, [IDS[1]], normalisation=Normalisation.HISTOGRAM)
    expected = histogram_reference([images_of(0), images_of(2)])
    assert split.histogram is not None
    np.testing.assert_allclose(split.histogram, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("hold_out", "skip"),
    [(["BraTS-GLI-99999-000"], []), ([], ["BraTS-GLI-99999-000"]), ([IDS[3]], []), ([IDS[0]], [IDS[0]])],
    ids=["unknown", "unknown to skip", "without label map", "skipped"],
)
def test_case_that_cannot_be_held_out_or_skipped(folder: Path, hold_out: list[str], skip: list[str]) -> None:
    with pytest.raises(UsageError, match=(hold_out + skip)[0]):
        load(folder, hold_out, skip)


def test_nothing_to_train_on(folder: Path) -> None:
    with pytest.raises(UsageError, match="no case to train on"):
        load(folder, hold_out=IDS[:3])


def test_two_label_maps_of_a_case(folder: Path) -> None:
    write(folder / "other" / f"{IDS[0]}-seg.nii.gz", labels_of())
    with pytest.raises(UsageError, match="second label map"):
        load(folder)


def test_case_without_a_modality_is_never_trained_on(folder: Path) -> None:
    (folder / "images" / IDS[1] / f"{IDS[1]}-t2w.nii.gz").unlink()
    with pytest.raises(CaseError, match="lacks t2w"):
        load(folder)
    assert len(load(folder, skip=[IDS[1]]).training) == 2


@pytest.mark.parametrize(
    ("labels", "affine"),
    [
        (labels_of()[:-1], AFFINE),
        (labels_of(), np.diag([1.0, -1.0, 1.0, 1.0])),
        (np.where(labels_of() == 3, 7, labels_of()).astype(np.uint8), AFFINE),
    ],
    ids=["another shape", "mirrored", "unknown label"],
)
def test_label_map_of_something_else(folder: Path, labels: NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    path = folder / "labels" / f"{IDS[0]}-seg.nii.gz"
    write(path, labels, affine)
    with pytest.raises(CaseError, match=str(path)):
        load(folder)


def test_intensities_that_16_bits_cannot_hold(folder: Path) -> None:
    write(folder / "images" / IDS[0] / f"{IDS[0]}-t1c.nii.gz", images_of(0)[1] * 1000)
    with pytest.raises(CaseError, match=f"{IDS[0]}.*float16"):
        load(folder, normalisation=Normalisation.NONE)
    assert len(load(folder, normalisation=Normalisation.RESCALE).training) == 3


def test_second_load_reads_the_cache_and_a_changed_file_does_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    monkeypatch.setattr("brats_infer.train.data.dataset._read", None)
    for case, again in zip(first.training, load(folder).training, strict=True):
        assert np.array_equal(case.image, again.image)
        assert np.array_equal(case.regions, again.regions)
        assert all(np.array_equal(a, b) for a, b in zip(case.centres, again.centres, strict=True))
    monkeypatch.undo()
    write(folder / "images" / IDS[0] / f"{IDS[0]}-t1n.nii.gz", images_of(9)[0])
    changed = load(folder)
    assert not np.array_equal(changed.training[0].image, first.training[0].image)
    assert np.array_equal(changed.training[1].image, first.training[1].image)


def test_centres_lie_in_their_regions(folder: Path) -> None:
    case = load(folder).training[0]
    for mask, voxels in zip((*case.regions.numpy(), case.image[4].numpy() > 0), case.centres, strict=True):
        assert sorted(map(tuple, voxels)) == sorted(zip(*mask.nonzero(), strict=True))


def test_label_4_of_2021_is_et(folder: Path) -> None:
    expected = load(folder).training[0].regions
    for path in [*folder.rglob(f"{IDS[0]}-*.nii.gz")]:
        path.rename(path.with_name(path.name.replace(IDS[0], "BraTS2021_00000")))
    labels = labels_of()
    labels[labels == 3] = 4
    write(folder / "labels" / "BraTS2021_00000-seg.nii.gz", labels)
    split = load(folder)
    assert split.training[-1].id == "BraTS2021_00000"
    assert np.array_equal(split.training[-1].regions, expected)


def test_label_map_of_other_axes_or_a_few_micrometres_off_is_placed_on_its_images_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load(folder).training[0].regions
    path = folder / "labels" / f"{IDS[0]}-seg.nii.gz"
    moved = AFFINE.copy()
    moved[:3, 3] += 0.004
    ras = nib.as_closest_canonical(nib.Nifti1Image(labels_of(), moved))
    write(path, np.asarray(ras.dataobj), ras.affine)
    assert np.array_equal(load(folder).training[0].regions, expected)
    assert [message.split(": ", 2)[2] for message in caplog.messages] == [
        "its axes are RAS, those of the images LPS: it was turned onto them",
        "its affine differs by 0.00693 mm from that of the images, less than a tenth of a voxel: "
        "they were taken as one grid",
    ]


def test_phantoms_come_from_a_folder_of_their_own(folder: Path) -> None:
    split = load_split(
        folder, "gli", [], [IDS[0]], Normalisation.ZSCORE, folder.parent / f"{folder.name} cache", folder
    )
    assert [case.id for case in split.training] == IDS[1:3]
    assert [case.id for case in split.phantoms] == IDS[:3]


def test_cache_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder.parent / f"{folder.name} cache").write_text("a file")
    with pytest.raises(OutputError, match=r"cache.*--cache"):
        load(folder)


def test_coarse_cases_hold_means_and_what_fills_half_of_a_voxel(folder: Path) -> None:
    fine = load(folder).training[0]
    cache = folder.parent / f"{folder.name} cache"
    split = load_split(folder, "gli", [IDS[1]], [], Normalisation.RESCALE, cache, spacing=2)
    coarse = split.training[0]

    def blocks(volumes: NDArray[np.generic]) -> NDArray[np.float64]:
        padded = np.pad(volumes.astype(np.float64), [(0, 0), *((0, n % 2) for n in volumes.shape[1:])])
        c, x, y, z = padded.shape
        means: NDArray[np.float64] = padded.reshape(c, x // 2, 2, y // 2, 2, z // 2, 2).mean(axis=(2, 4, 6))
        return means

    np.testing.assert_allclose(coarse.image.numpy(), blocks(fine.image.numpy()), atol=2e-3)
    assert np.array_equal(coarse.regions, blocks(fine.regions.numpy()) >= 0.5)
    assert coarse.regions.any()
    assert split.validation[0].image.shape == load(folder).training[1].image.shape


def test_a_damaged_entry_of_the_cache_is_made_anew(folder: Path) -> None:
    before = load(folder).training[0]
    image, regions = before.image.clone(), before.regions.clone()
    entries = list((folder.parent / f"{folder.name} cache").glob("*.safetensors"))
    assert len(entries) == 3
    for damaged in (lambda whole: whole[:-20], lambda whole: whole[:20], lambda _: b"", lambda _: save({})):
        for path in entries:
            whole = path.read_bytes()
            path.unlink()  # what is mapped from it stays
            path.write_bytes(damaged(whole))
        found = load(folder).training[0]
        assert torch.equal(found.image, image)
        assert torch.equal(found.regions, regions)
        assert all(np.array_equal(a, b) for a, b in zip(found.centres, before.centres, strict=True))


def test_the_cache_holds_no_file_open_and_is_never_written_to_by_what_is_drawn(folder: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [load(folder) for _ in range(5)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    kept[0].training[0].image.fill_(1)
    assert not torch.equal(load(folder).training[0].image, kept[0].training[0].image)


def test_what_a_killed_run_left_in_the_cache_is_removed(folder: Path) -> None:
    load(folder)
    left = folder.parent / f"{folder.name} cache" / ".brats-opt-left"
    left.touch()
    load(folder)
    assert not left.exists()


def test_an_entry_that_cannot_be_opened_is_named_and_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(path: Path) -> None:
        raise OSError(24, "Too many open files")

    load(folder)
    entries = sorted((folder.parent / f"{folder.name} cache").iterdir())
    monkeypatch.setattr(data, "load_file", too_many)
    with pytest.raises(
        UsageError, match=r"safetensors: cannot be read \(Too many open files\): choose another --cache"
    ):
        load(folder)
    assert sorted((folder.parent / f"{folder.name} cache").iterdir()) == entries


def test_a_label_map_that_is_a_broken_link_is_named(folder: Path) -> None:
    labels = folder / "labels" / f"{IDS[0]}-seg.nii.gz"
    labels.unlink()
    labels.symlink_to(folder / "not fetched")
    with pytest.raises(CaseError, match=rf"{labels.name}: cannot be read \(No such file or directory\): copy it again"):
        load(folder)


def test_another_examination_of_a_held_out_patient_is_not_trained_on(folder: Path) -> None:
    later = "BraTS-GLI-00001-001"
    for path in (folder / "images" / IDS[1]).iterdir():
        (folder / "images" / later).mkdir(exist_ok=True)
        shutil.copy(path, folder / "images" / later / path.name.replace(IDS[1], later))
    shutil.copy(folder / "labels" / f"{IDS[1]}-seg.nii.gz", folder / "labels" / f"{later}-seg.nii.gz")
    with pytest.raises(UsageError, match=f"--hold-out: {later} is of a patient who is held out"):
        load(folder, hold_out=[IDS[1]])
    assert load(folder, hold_out=[IDS[1], later]).training
    assert load(folder, hold_out=[IDS[1]], skip=[later]).training


def test_a_held_out_case_is_no_phantom(folder: Path) -> None:
    cache = folder.parent / f"{folder.name} cache"
    with pytest.raises(UsageError, match=rf"--phantoms .*: holds {IDS[1]}, which is held out"):
        load_split(folder, "gli", [IDS[1]], [], Normalisation.ZSCORE, cache, folder)


@pytest.mark.parametrize("spacing", [1, 2])
def test_dust_is_taken_out_of_labels_at_1_mm_and_of_those_of_phantoms_too(folder: Path, spacing: int) -> None:
    speck, lesion = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    speck[8:10, 7:9, 6:8], lesion[8:12, 7:11, 6:10] = 2, 2  # 8 and 64 mm3
    for case_id, labels in zip(IDS[:2], (speck, lesion), strict=True):
        write(folder / "labels" / f"{case_id}-seg.nii.gz", labels)
    cache = folder.parent / "cleaned"
    kinds = [
        load_split(folder, "gli", (), [IDS[2]], Normalisation.RESCALE, cache, folder, spacing, clean)
        for clean in (False, True)
    ]
    found = [[bool(case.regions.any()) for case in (*kind.training, *kind.phantoms[:2])] for kind in kinds]
    assert found == [[True] * 4, [False, True] * 2]


def test_what_is_left_out_is_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("dwi", "adc"):
        write(folder / "notes" / f"scan-{name}.nii.gz", images_of(0)[0])
    load(folder)
    told = [record.getMessage().partition(": is left out")[0] for record in caplog.records]
    assert told == [f"warning: {folder / 'notes' / name}" for name in ("scan-adc.nii.gz", "scan-dwi.nii.gz")]
