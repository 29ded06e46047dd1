"""Imported members against nnU-Net's own predictor, whose answers lie beside the models (`make_models.py`)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brats_infer.files.nifti import read_images
from brats_infer.image.voxels import filled
from brats_infer.labelling.label_map import is_post_processed
from brats_infer.network.devices import CPU
from brats_infer.network.engines import TorchEngine
from brats_infer.network.ensemble import Ensemble, task_of
from brats_infer.network.gpu.ensemble import GpuEnsemble
from brats_infer.network.loading import ensemble_of
from brats_infer.network.openvino_engine import OpenVinoEngine
from brats_infer.pipeline import Labelled, label, predict, prepare
from brats_infer.settings import Mode, PostProcess, Settings
from brats_infer.tasks import Rule
from model.checkpoint import load_member, read_manifest
from tests.imported.fixtures import FILES, GLI, NAMES, imported, nnunet_says
from tests.small_networks import member_of, random_network

ENGINES = {
    "torch": lambda network, _: TorchEngine(network, dtype=torch.float32),
    "OpenVINO": lambda network, _: OpenVinoEngine(network, bf16=False),
}


def ensemble_from(weights: Path, make_engine: Any = ENGINES["torch"]) -> Ensemble:
    networks = [(member, load_member(weights, member)) for member in read_manifest(weights)]
    return ensemble_of(GLI, networks, CPU, make_engine=make_engine)


def labelled_by(ensemble: Ensemble, settings: Settings) -> Labelled:
    predicted = predict(prepare(read_images(FILES.values()), ensemble), ensemble, settings)
    return label(predicted, ensemble.task, settings, complete=True)


@pytest.mark.parametrize("mirrored", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES)
def test_labels_and_probabilities_are_those_of_nnunet(name: str, engine: str, mirrored: bool, tmp_path: Path) -> None:
    imported(name, tmp_path / "weights")
    settings = Settings(mode=Mode.SLIDING_WINDOW, flips=mirrored)
    found = labelled_by(ensemble_from(tmp_path / "weights", ENGINES[engine]), settings)
    labels, probabilities = nnunet_says(name, mirrored)
    tumor = (labels > 0) | (found.labels > 0)
    assert np.count_nonzero(tumor) > 1000
    assert (found.labels == labels)[tumor].mean() >= 0.999
    np.testing.assert_allclose(found.probability_maps()[:, ::3, ::3, ::3], probabilities, rtol=0, atol=1e-4)


@pytest.mark.parametrize("mirrored", [False, True], ids=["plain", "mirrored"])
@pytest.mark.parametrize("name", ["plain2-regions", "flat4-labels"])
def test_the_ensemble_of_a_gpu_finds_the_same(name: str, mirrored: bool, tmp_path: Path) -> None:
    """Here on the CPU, in float32, with the steps that a GPU takes."""
    imported(name, tmp_path)
    networks = [(member, load_member(tmp_path, member)) for member in read_manifest(tmp_path)]
    on_gpu = ensemble_of(GLI, networks, torch.device("cpu:0"), make_engine=ENGINES["torch"])
    assert type(on_gpu) is GpuEnsemble
    found = labelled_by(on_gpu, Settings(mode=Mode.SLIDING_WINDOW, flips=mirrored))
    labels, _ = nnunet_says(name, mirrored)
    assert np.array_equal(found.labels, labels)


def test_there_are_six_models_of_both_kinds_with_and_without_regions() -> None:
    assert [name for name in NAMES if "residual" not in name] == [
        *("flat4-labels", "plain2-regions", "plain5-older", "trained3-regions")
    ]
    assert [name for name in NAMES if "residual" in name] == ["residual3-regions", "residual6-labels"]


def test_the_whole_brain_at_once_finds_nearly_the_same_tumor(tmp_path: Path) -> None:
    imported("trained3-regions", tmp_path)
    ensemble = ensemble_from(tmp_path)
    whole, windows = (labelled_by(ensemble, Settings(mode=mode)).labels > 0 for mode in Mode)
    assert 2 * np.count_nonzero(whole & windows) > 0.8 * (np.count_nonzero(whole) + np.count_nonzero(windows))


def test_post_processing_is_off_for_imported_members_until_it_is_asked_for(tmp_path: Path) -> None:
    imported("plain2-regions", tmp_path)
    ensemble = ensemble_from(tmp_path)
    raw, on, off = (labelled_by(ensemble, Settings(post_process=PostProcess(each))) for each in ("auto", "on", "off"))
    assert np.array_equal(raw.labels, off.labels)
    assert raw.labels[~_brain()].any()
    assert not on.labels[~_brain()].any()


def _brain() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The brain with its cavities, of which post-processing keeps the labels."""
    images = read_images(FILES.values())
    return filled(np.any([volume.data != 0 for volume in images.values()], axis=0))


def test_members_of_ours_beside_imported_ones_label_by_our_rule(tmp_path: Path) -> None:
    (imported_member,) = imported("flat4-labels", tmp_path)
    own = member_of()
    assert task_of(GLI, [own]) is GLI
    assert task_of(GLI, [own, imported_member]) is GLI
    alone = task_of(GLI, [imported_member])
    assert (alone.rule, alone.regions[0].threshold, alone.post_processed) == (Rule.ARGMAX, 0.5, False)
    assert [is_post_processed(task, Settings()) for task in (GLI, alone)] == [True, False]
    (others,) = imported("plain5-older", tmp_path)
    assert task_of(GLI, [imported_member, others]).rule is Rule.INWARDS


def test_an_ensemble_takes_the_mean_of_probabilities_over_members_and_of_logits_over_folds(tmp_path: Path) -> None:
    folds = imported("plain2-regions", tmp_path)
    assert len(folds) == 2
    ours = random_network()
    networks = [(member, load_member(tmp_path, member)) for member in folds]
    mixed = ensemble_of(GLI, [*networks, (member_of(), ours)], CPU, make_engine=ENGINES["torch"])
    settings = Settings(mode=Mode.SLIDING_WINDOW)
    both, one, other = (
        labelled_by(each, settings).found.probabilities
        for each in (
            mixed,
            ensemble_of(GLI, networks, CPU, make_engine=ENGINES["torch"]),
            ensemble_of(GLI, [(member_of(), ours)], CPU, make_engine=ENGINES["torch"]),
        )
    )
    inside = other[0] > 0
    np.testing.assert_allclose(both[:, inside], ((2 * one + other) / 3)[:, inside], rtol=0, atol=1e-5)
