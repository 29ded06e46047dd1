"""The members of a task: which there are, what they see, and the mean of what they answer."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.errors import WeightsError
from brats_infer.image.normalise import Normalisation, histogram_reference, network_input, normalise
from brats_infer.image.voxels import EVERYTHING, Box
from brats_infer.labelling.label_map import Found
from brats_infer.network.engines import TorchEngine
from brats_infer.network.ensemble import Inputs
from brats_infer.network.gpu.half_engine import HalfEngine, in_half
from brats_infer.network.gpu.inputs import RAW
from brats_infer.network.loading import ensemble_of, load_ensemble, torch_engine
from brats_infer.network.windows import Engine, predict_member
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from model.checkpoint import MANIFEST, load_member, save_reference
from model.config import Member, UNetConfig
from model.unet import UNet
from tests.small_networks import (
    SMALL,
    Told,
    brain_images,
    cropped_of,
    member_of,
    predicted,
    probabilities_of,
    random_network,
    write_weights,
)

CPU = torch.device("cpu")


GLI = TASKS["gli"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def member_probabilities(network: UNet, member: Member, images: NDArray[np.float32], mode: Mode) -> NDArray[np.float32]:
    """One member by hand: normalise, add the mask, one pass."""
    brain = (images != 0).any(axis=0, keepdims=True)
    x = normalise(images, Normalisation(member.normalisation))
    if member.config.foreground:
        x = np.concatenate((x, brain))
    with torch.no_grad():
        window = member.window if mode is Mode.SLIDING_WINDOW else None
        return predict_member(TorchEngine(network), torch.from_numpy(x.astype(np.float32)), window, flips=False).numpy()


@pytest.mark.parametrize("mode", list(Mode))
def test_members_of_any_input_are_averaged(mode: Mode, rng: np.random.Generator) -> None:
    images = brain_images((10, 9, 8), rng)
    plain = replace(SMALL, foreground=False)
    members = (
        (member_of(), random_network(seed=0)),
        (replace(member_of(config=plain), normalisation="zscore"), random_network(plain, seed=1)),
        (replace(member_of(), normalisation="zscore", window=(8, 12, 8)), random_network(seed=2)),
        (replace(member_of(config=UNetConfig((2, 4))), normalisation="none"), random_network(UNetConfig((2, 4)), 3)),
    )
    found = predicted(members, images, mode)
    each = [member_probabilities(network, member, images, mode) for member, network in members]
    assert max(float(np.abs(a - b).max()) for a, b in itertools.combinations(each, 2)) > 0.1
    assert found.dtype == np.float32
    assert found.shape == (3, 10, 9, 8)
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=0, atol=1e-6)


def test_an_ensemble_of_one_twice_is_that_one(rng: np.random.Generator) -> None:
    images = brain_images((9, 9, 9), rng)
    one = (member_of(), random_network())
    single = predicted((one,), images, Mode.COARSE_TO_FINE, flips=True)
    np.testing.assert_allclose(predicted((one, one), images, Mode.COARSE_TO_FINE, flips=True), single, atol=1e-6)
    assert 0 <= single.min() < single.max() <= 1


def test_mask_channel_is_the_brain_not_the_intensity(rng: np.random.Generator) -> None:
    images = brain_images((6, 5, 4), rng)
    brain = cropped_of(images).brain
    with_mask = network_input(images, brain, Normalisation.NONE, None, foreground=True)
    assert with_mask.dtype == np.float32
    assert np.array_equal(with_mask[:4], images)
    assert np.array_equal(with_mask[4], (images != 0).any(axis=0))
    assert np.array_equal(network_input(images, brain, Normalisation.NONE, None, foreground=False), images)


@pytest.mark.parametrize(
    "dtypes", [["int16"] * 4, ["int16", "uint8", "uint16", "int8"], ["<i2", ">i2", "int16", "uint8"]]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_gpu_makes_zscores_of_whole_numbers_itself(dtypes: list[str], order: str, rng: np.random.Generator) -> None:
    """Members with the mask and without, beside the CPU, for which the host makes them."""
    images = np.abs(brain_images((12, 10, 9), rng)).clip(0, 120).round()
    cropped = cropped_of(images)
    views = [np.asarray(image, dtype, order) for image, dtype in zip(images, dtypes, strict=True)]
    cropped = replace(cropped, views=(views[0][::-1].copy(order)[::-1], *views[1:]))
    configs = SMALL, replace(SMALL, foreground=False)
    members = tuple((replace(member_of(config=c), normalisation="zscore"), random_network(c)) for c in configs)
    found = []
    for device in (torch.device("cpu:0"), CPU):  # a GPU, to the ensemble
        ensemble = ensemble_of(GLI, members, device, make_engine=torch_engine)
        prepared = ensemble.prepare(cropped)
        assert (RAW in prepared) == (device != CPU)
        found.append(probabilities_of(ensemble, prepared))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
    assert found[0].std() > 0.01, "else this test shows nothing"


@pytest.mark.parametrize(
    ("dtype", "normalisation"), [("float32", "zscore"), ("int32", "zscore"), ("int16", "zscore+rescale")]
)
def test_what_a_gpu_cannot_normalise_is_normalised_on_the_host(
    dtype: str, normalisation: str, rng: np.random.Generator
) -> None:
    cropped = cropped_of(brain_images((12, 10, 9), rng))
    cropped = replace(cropped, views=tuple(view.astype(dtype) for view in cropped.views))
    members = tuple((replace(member_of(), normalisation=each), random_network()) for each in ("zscore", normalisation))
    prepared = ensemble_of(GLI, members, torch.device("cpu:0")).prepare(cropped)
    assert RAW not in prepared
    assert len(prepared) == len({"zscore", normalisation})


def test_histogram_member_reads_its_reference(tmp_path: Path, rng: np.random.Generator) -> None:
    images = brain_images((10, 9, 8), rng)
    reference = histogram_reference([brain_images((10, 9, 8), rng) ** 2 for _ in range(2)])
    sha256 = save_reference(tmp_path / "small-0.histogram.safetensors", reference)
    changes = {"normalisation": "zscore+rescale+histogram", "histogram_sha256": sha256}
    write_weights(tmp_path, [random_network()], **changes)
    ensemble = load_ensemble(tmp_path, GLI, CPU)
    assert np.array_equal(ensemble.references["small-0.safetensors"], reference)
    networks = [(member, load_member(tmp_path, member)) for member in ensemble.members]
    found = predicted(networks, images, Mode.COARSE_TO_FINE, references=ensemble.references)
    brain = cropped_of(images).brain
    x = torch.from_numpy(network_input(images, brain, Normalisation.HISTOGRAM, reference, foreground=True))
    with torch.no_grad():
        expected = predict_member(TorchEngine(networks[0][1]), x, None, flips=False).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert not np.array_equal(x[:4], normalise(images, Normalisation.RESCALE))


def test_members_of_other_tasks_stay_out(tmp_path: Path) -> None:
    members = write_weights(tmp_path, [random_network(seed=seed) for seed in range(3)])
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["members"][1]["task"] = "ssa"
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / members[1].file).unlink()
    ensemble = load_ensemble(tmp_path, GLI, CPU)
    assert [member.file for member in ensemble.members] == [members[0].file, members[2].file]
    assert ensemble.references == {}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "men"}, "no member"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"file": "other.safetensors"}, "cannot be read"),
        ({"normalisation": "histogram"}, "normalisation"),
        ({"config": UNetConfig((3, 5, 6), modalities=3)}, "channels"),
        ({"config": UNetConfig((3, 5, 6), regions=4)}, "channels"),
        ({"config": UNetConfig((3, 5, 6), foreground=False)}, "does not fit"),
        ({"normalisation": "zscore+rescale+histogram"}, r"small-0\.histogram"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_weights_that_cannot_be_used_are_named(tmp_path: Path, change: dict[str, object], word: str) -> None:
    write_weights(tmp_path, [random_network()], **change)
    with pytest.raises(WeightsError, match=word) as caught:
        load_ensemble(tmp_path, GLI, CPU)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"version": 1, "members": []}'])
def test_weights_folder_without_members(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(WeightsError, match=str(tmp_path)):
        load_ensemble(tmp_path, GLI, CPU)


def bright(batch: Tensor) -> Tensor:
    """Tumor where the first modality is bright."""
    # beside the lump 0.2 is interpolated, less than `POSSIBLE`
    return torch.where(batch[:, :1] > 0.5, 0.8, 0.0)


def place(batch: Tensor) -> Tensor:
    """Another number for every place in what it sees."""
    ramp: Tensor = torch.arange(batch[0, 0].numel(), dtype=torch.float32).sin().abs()
    return ramp.view(batch.shape[2:]).expand(len(batch), 1, -1, -1, -1)


FINE = (UNetConfig((2, 4, 6), foreground=False), UNetConfig((2, 4), foreground=False))


COARSE = replace(FINE[0], spacing=2)


LUMP = slice(20, 126), slice(94, 98), slice(6, 8)


CLOSER = slice(11, 135), slice(4, 100), slice(0, 12)  # 122 voxels with a margin, in steps of 4; 96; all there are


@pytest.mark.parametrize("flips", [False, True], ids=["once", "flips"])
@pytest.mark.parametrize("lump", [LUMP, None], ids=["lump", "nothing"])
@pytest.mark.parametrize("mode", list(Mode))
def test_finer_members_look_where_coarser_ones_hold_a_tumor_possible(mode: Mode, lump: Box | None, flips: bool) -> None:
    """Two members at 1 mm before one at 2 mm."""
    images = np.zeros((4, 150, 100, 12), np.float32)
    if lump:
        images[0, *lump] = 1
    window = (64, 64, 12)
    configs = (*FINE, COARSE)
    members = tuple(
        (replace(member_of(config=config), normalisation="none", window=window), random_network(config))
        for config in configs
    )

    def engine(network: UNet, _: torch.device) -> Engine:
        return Told(network.config, bright if network.config.spacing == 2 else place)

    ensemble = ensemble_of(GLI, members, CPU, make_engine=engine)
    found = probabilities_of(ensemble, ensemble.prepare(cropped_of(images)), Settings(mode=mode, flips=flips)).numpy()

    x = torch.from_numpy(images)
    closer = mode is Mode.COARSE_TO_FINE
    coarse = predict_member(Told(COARSE, bright), x, None if closer else window, flips)
    box = CLOSER if closer and lump else EVERYTHING
    fine = predict_member(Told(FINE[0], place), x[:, *box], None if closer else window, flips)
    expected = coarse.clone()
    expected[:, *box] = (2 * fine + coarse[:, *box]) / 3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_closer_look_of_a_coarse_member_fits_its_own_grid() -> None:
    images = np.zeros((4, 150, 100, 12), np.float32)
    images[0, 20:128, 92:100, 4:8] = 1
    configs = COARSE, replace(COARSE, spacing=4)
    seen: list[tuple[int, ...]] = []

    def engine(network: UNet, _: torch.device) -> Engine:
        def answer(batch: Tensor) -> Tensor:
            seen.append(tuple(batch.shape[2:]))
            return bright(batch) * 0.625  # of 4 mm, 0.3 would be interpolated beside the lump

        return Told(network.config, answer)

    members = tuple((replace(member_of(config=c), normalisation="none"), random_network(c)) for c in configs)
    ensemble = ensemble_of(GLI, members, CPU, make_engine=engine)
    ensemble.predict(ensemble.prepare(cropped_of(images)), Settings())
    assert seen == [(38, 25, 3), (64, 48, 6)], "124 voxels with a margin, in steps of 4 that are 2 mm wide; 96"


@pytest.mark.parametrize("mode", list(Mode))
def test_what_overflows_fp16_is_computed_again_in_float32(mode: Mode) -> None:
    """As on a GPU, whose members compute in fp16; here one voxel is too large for it after normalisation."""
    images = np.random.default_rng(4).normal(size=(4, 20, 18, 16)).astype(np.float32)
    images[1, 9, 8, 7] = 1e6
    members = tuple(
        (replace(member_of(config=config), normalisation="none"), random_network(config, seed=seed))
        for seed, config in enumerate((replace(SMALL, foreground=False), COARSE))
    )

    def half(network: UNet, _: torch.device) -> Engine:
        return HalfEngine(network, half=in_half(network))

    def in_float32(network: UNet, _: torch.device) -> Engine:
        return TorchEngine(network, dtype=torch.float32)

    of_gpu, expected = (
        ensemble_of(GLI, members, device, make_engine=engine)
        for device, engine in ((torch.device("cpu:0"), half), (CPU, in_float32))
    )
    prepared = expected.prepare(cropped_of(images))
    found, of_cpu = (probabilities_of(each, prepared, Settings(mode=mode)) for each in (of_gpu, expected))
    torch.testing.assert_close(found, of_cpu, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", list(Mode))
def test_a_gpu_that_is_given_several_cases_at_once_answers_as_if_it_had_one(mode: Mode) -> None:
    """Often enough for windows to be recorded, of several sizes, and one of them too large for fp16."""
    rng = np.random.default_rng(0)
    configs = replace(SMALL, foreground=False), COARSE
    members = tuple(
        (replace(member_of(config=config), normalisation="none", window=(16, 16, 16)), random_network(config))
        for config in configs
    )
    ensemble = ensemble_of(GLI, members, torch.device("cuda", 0), make_engine=torch_engine)
    images = [rng.normal(size=(4, 20 + 4 * (i // 8), 24, 40)).astype(np.float32) for i in range(16)]
    images[5][1, 9, 8, 7] = 1e6
    prepared = [ensemble.prepare(cropped_of(each)) for each in images]

    def answer(each: Inputs) -> Found:
        return ensemble.predict(each, Settings(mode=mode), complete=True)

    alone = [answer(each) for each in prepared]
    with ThreadPoolExecutor(3) as threads:
        together = [*threads.map(answer, 4 * prepared)]
    for found, expected in zip(together, 4 * alone, strict=True):
        np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-4)
        assert (found.labels != expected.labels).mean() < 1e-3
    assert len({outcome.labels.tobytes() for outcome in alone}) == len(alone), "else this test shows nothing"


@pytest.mark.parametrize(("dust", "length"), [(500, 96), (50, 188)])
def test_dust_of_the_settings_widens_no_closer_look(dust: int, length: int) -> None:
    images = np.zeros((4, 200, 100, 12), np.float32)
    images[0, 20:60, 40:60, 4:8] = 1
    images[0, 190:198, 40:44, 4:8] = 1  # 128 voxels
    seen: list[int] = []

    def engine(network: UNet, _: torch.device) -> Engine:
        def answer(batch: Tensor) -> Tensor:
            seen.append(batch.shape[2])
            return bright(batch)

        return Told(network.config, answer)

    configs = (COARSE, FINE[0])
    members = tuple((replace(member_of(config=c), normalisation="none"), random_network(c)) for c in configs)
    ensemble = ensemble_of(GLI, members, CPU, make_engine=engine)
    ensemble.predict(ensemble.prepare(cropped_of(images)), Settings(dust=dust))
    assert seen == [100, length]
