"""One case in Python."""

import itertools
import multiprocessing
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the package's own custom
import torch

from brats_infer import Segmentation, api, pipeline, segment, segment_folder
from brats_infer.errors import CaseError, UsageError
from brats_infer.labelling.confidence import expected_dice
from brats_infer.network.gpu import ensemble as gpu_ensemble
from brats_infer.phantom.write import write_cohort
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from tests.small_networks import random_network, write_weights

ID = "BraTS-GLI-01000-000"
SHEARED = np.array([[1, 1, 0, 0], [0, 1e-9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`input` with one case, `weights`, and `output` as the folder's function makes it."""
    folder = tmp_path_factory.mktemp("single")
    list(write_cohort(folder / "input", "gli", 1, seed=1, shape=(30, 34, 26)))
    (folder / "weights").mkdir()
    write_weights(folder / "weights", [random_network(seed=5)])
    settings = Settings(probabilities=folder / "probabilities")
    segment_folder(
        folder / "input", folder / "output", task="gli", weights=folder / "weights", device="cpu", settings=settings
    )
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, Path]:
    return {name: folder / "input" / ID / f"{ID}-{name}.nii.gz" for name in ("t1n", "t1c", "t2w", "t2f")}


def run(folder: Path, images: Mapping[str, Any], **more: Any) -> Segmentation:
    return segment(images, task="gli", weights=folder / "weights", device="cpu", **more)


def test_files_give_the_label_map_that_the_folder_gives(folder: Path, files: dict[str, Path], tmp_path: Path) -> None:
    found = run(folder, files)
    found.save(tmp_path / "map.nii.gz")
    assert (tmp_path / "map.nii.gz").read_bytes() == (folder / "output" / f"{ID}.nii.gz").read_bytes()
    assert found.volumes["WT"] == pytest.approx((found.labels > 0).sum() / 1000)
    assert found.volumes["ET"] == pytest.approx((found.labels == 3).sum() / 1000)
    assert {type(millilitres) for millilitres in found.volumes.values()} == {float}, "which print as plain numbers"
    stored = nib.load(folder / "probabilities" / f"{ID}.nii.gz").get_fdata()
    np.testing.assert_allclose(found.probabilities, np.moveaxis(stored, -1, 0), rtol=0, atol=1 / 500)
    assert found.probabilities.shape == (3, *found.labels.shape)
    assert found.probabilities.max() > 0.5
    assert found.expected_dice == expected_dice(found.probabilities, found.labels, TASKS["gli"])


def test_the_labels_come_back_as_an_image_of_nibabel_on_the_input_s_grid(
    folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """Field report python-api."""
    found = run(folder, files)
    image, given = found.to_nibabel(), nib.load(files["t1n"])
    assert isinstance(image, nib.Nifti1Image)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.dataobj, found.labels)
    np.testing.assert_array_equal(image.affine, given.affine)
    for name in ("qform_code", "sform_code", "pixdim", "xyzt_units", "srow_x", "qoffset_y", "quatern_d"):
        np.testing.assert_array_equal(image.header[name], nib.load(folder / "output" / f"{ID}.nii.gz").header[name])


def test_images_of_the_field_s_libraries_give_the_map_of_the_files(folder: Path, files: dict[str, Path]) -> None:
    """Field report python-api: nibabel, SimpleITK, tensors with gradients, one more axis, NaN outside the brain."""
    expected = run(folder, files)
    loaded = {name: nib.load(path) for name, path in files.items()}
    arrays = {name: image.get_fdata(dtype=np.float32) for name, image in loaded.items()}
    affine = loaded["t1n"].affine
    kinds: dict[str, tuple[Mapping[str, Any], Any]] = {
        "nibabel": (loaded, None),
        "nibabel and affine": (loaded, affine),
        "SimpleITK": ({name: sitk.ReadImage(str(path)) for name, path in files.items()}, None),
        "tensors": ({name: torch.from_numpy(x).requires_grad_() for name, x in arrays.items()}, affine),
        "last axis": ({name: x[..., np.newaxis] for name, x in arrays.items()}, affine),
        "first axis": ({name: x[np.newaxis] for name, x in arrays.items()}, affine),
        "NaN": ({name: np.where(x == 0, np.nan, x) for name, x in arrays.items()}, affine),
        "bytes": ({name: str(path).encode() for name, path in files.items()}, None),
    }
    for kind, (images, given) in kinds.items():
        found = run(folder, images, affine=given)
        np.testing.assert_array_equal(found.labels, expected.labels, kind)
        np.testing.assert_allclose(found.affine, affine, atol=1e-6)
        told = [warning for warning in found.warnings if warning not in expected.warnings]
        assert all("NaN voxels were taken as background" in warning for warning in told)
        assert len(told) == 4 * (kind == "NaN")


def test_mode_and_flips_are_obeyed(folder: Path, files: dict[str, Path]) -> None:
    maps = [
        run(folder, files, settings=Settings(mode=mode, flips=flips)).probabilities
        for mode in Mode
        for flips in (False, True)
    ]
    assert all(np.abs(one - other).max() > 0.01 for one, other in itertools.combinations(maps, 2))


def test_arrays_give_the_same_in_any_order_of_the_contrasts(folder: Path, files: dict[str, Path]) -> None:
    images = {name: nib.load(path) for name, path in files.items()}
    arrays = {name: image.get_fdata() for name, image in reversed(images.items())}
    found = run(folder, arrays, affine=images["t1n"].affine)
    np.testing.assert_array_equal(found.labels, run(folder, files).labels)
    np.testing.assert_array_equal(found.affine, images["t1n"].affine)


def test_what_a_gpu_fails_at_behind_the_networks_is_computed_again(
    folder: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    works, errors = gpu_ensemble.fetched, ["CUDA error: unspecified launch failure"]

    def failing(*given: Any, **more: Any) -> Any:
        if errors:
            raise RuntimeError(errors.pop())
        return works(*given, **more)

    monkeypatch.setattr("brats_infer.network.loading.openvino_works", lambda: False)
    monkeypatch.setattr(api, "pick_device", lambda _: torch.device("cpu:0"))  # not the CPU, to the ensemble
    monkeypatch.setattr(gpu_ensemble, "fetched", failing)
    api._ensemble.cache_clear()
    found = run(folder, files)
    assert not errors
    np.testing.assert_array_equal(run(folder, files).labels, found.labels)
    errors.append("shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes"):
        run(folder, files)
    api._ensemble.cache_clear()


def test_masked_voxels_are_background(folder: Path, files: dict[str, Path]) -> None:
    images = {name: nib.load(path) for name, path in files.items()}
    affine = images["t1n"].affine
    plain = {name: image.get_fdata() for name, image in images.items()}
    masked = {name: np.ma.masked_array(np.where(x == 0, -999, x), x == 0) for name, x in plain.items()}
    found, expected = run(folder, masked, affine=affine), run(folder, plain, affine=affine)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.warnings == expected.warnings


def test_weights_that_have_changed_are_loaded_again(folder: Path, files: dict[str, Path], tmp_path: Path) -> None:
    write_weights(tmp_path, [random_network(seed=5)])
    first = segment(files, task="gli", weights=tmp_path, device=torch.device("cpu"))
    write_weights(tmp_path, [random_network(seed=6)])
    second = segment(files, task="gli", weights=tmp_path, device="cpu")
    np.testing.assert_array_equal(first.probabilities, run(folder, files).probabilities)
    assert not np.array_equal(first.probabilities, second.probabilities)


def test_what_is_missing_or_unusable_is_said(folder: Path, files: dict[str, Path]) -> None:
    arrays = {name: nib.load(path).get_fdata() for name, path in files.items()}
    with pytest.raises(UsageError, match="give those of t1n, t1c, t2w, t2f; one or two"):
        run(folder, {"t1n": files["t1n"]})
    with pytest.raises(UsageError, match="arrays without an affine"):
        run(folder, arrays)
    with pytest.raises(CaseError, match=r"t2w: has the shape \(2, 2\)"):
        run(folder, {**arrays, "t2w": np.ones((2, 2))}, affine=np.eye(4))
    for affine in (np.eye(3), np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1, 1, 2])):
        with pytest.raises(UsageError, match="affine: give a matrix"):
            run(folder, arrays, affine=affine)
    for affine in (np.diag([1.0, 1, 0, 1]), SHEARED, np.eye(4) + np.eye(4, k=3) * 1e39):
        with pytest.raises(CaseError, match="images: its affine is not finite or is singular"):
            run(folder, arrays, affine=affine)
    for image in (np.full((4, 4, 4), "x"), [[1, 2], [3]], arrays["t2w"] * 1j):
        with pytest.raises(CaseError, match="t2w: is no array of numbers"):
            run(folder, {**arrays, "t2w": image}, affine=np.eye(4))
    with pytest.raises(UsageError, match=r"map\.nii: name it \.nii\.gz"):
        run(folder, files).save("map.nii")
    with pytest.raises(UsageError, match=r"t1n\.nii\.gz: is given for two contrasts"):
        run(folder, {**files, "t1c": files["t1n"]})
    with pytest.raises(UsageError, match="images: is of the type ndarray: give a dict with t1n, t1c, t2w, t2f"):
        run(folder, np.stack(list(arrays.values())), affine=np.eye(4))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="mixed"):
        run(folder, {**arrays, "t2w": files["t2w"]}, affine=np.eye(4))
    with pytest.raises(UsageError, match="an affine of their own"):
        run(folder, files, affine=np.eye(4))


def test_what_is_odd_is_said_of_images_without_a_folder_too(
    folder: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {name: nib.load(path).get_fdata() for name, path in files.items()}
    monkeypatch.setattr(pipeline, "label_map", lambda *_: np.zeros(arrays["t1n"].shape, np.uint8))
    resampled, empty = run(folder, arrays, affine=np.diag([2.0, 2, 2, 1])).warnings
    assert resampled.startswith("images: voxels of 2x2x2 mm were resampled")
    assert empty.startswith("no tumor was found")


def labels_sum(folder: Path, files: dict[str, Path]) -> int:
    return int(run(folder, files).labels.sum())


def folder_of(folder: Path, output: Path) -> int:
    return len(segment_folder(folder / "input", output, task="gli", weights=folder / "weights", device="cpu"))


def test_a_fork_of_a_process_that_has_computed_says_at_once_to_use_spawn(
    folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """Field report fork: the child dies or the pool waits for ever."""
    labels_sum(folder, files)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        for function, given in ((labels_sum, (folder, files)), (folder_of, (folder, tmp_path / "out"))):
            with pytest.raises(UsageError, match=r'this process was forked .*: use the start method "spawn"'):
                pool.apply_async(function, given).get(60)
    assert labels_sum(folder, files) > 0, "the parent still computes"


def test_a_fork_of_a_process_that_has_not_computed_computes(folder: Path, files: dict[str, Path]) -> None:
    program = (
        "import multiprocessing, sys\n"
        "from brats_infer import segment\n"
        "def one(_): return int(segment(dict(a.split('=') for a in sys.argv[2:]), task='gli', weights=sys.argv[1],"
        " device='cpu').labels.sum())\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool: print(pool.map_async(one, [0]).get(60))\n"
    )
    given = [f"{name}={path}" for name, path in files.items()]
    command = [sys.executable, "-c", program, str(folder / "weights"), *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert done.stdout.strip() == f"[{labels_sum(folder, files)}]"
