"""What a run adds to a weights folder, and that it harms nothing there."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brats_infer.errors import OutputError, WeightsError
from brats_infer.train.checkpoint import BEST
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split, TrainingCase
from brats_infer.train.publish import open_members, publish
from brats_infer.train.run_config import TrainConfig
from model.atomic import write_atomically
from model.checkpoint import read_manifest, save_weights
from tests.small_networks import SMALL, random_network, write_weights


def run_of(folder: Path, seed: int) -> Path:
    folder.mkdir()
    save_weights(folder / BEST, random_network(seed=seed))
    return folder


def case_of(case_id: str) -> TrainingCase:
    return TrainingCase(case_id, torch.zeros((5, 1, 1, 1)), torch.zeros((3, 1, 1, 1), dtype=torch.bool), ())


def published(weights: Path, run: Path, sha256: str = "", **changed: Any) -> str:
    config = TrainConfig(TrainOptions(channels=SMALL.channels, normalisation="zscore", patch=8, **changed), sha256)
    split = Split((case_of("a"), case_of("b")), (), phantoms=(case_of("p"),))
    return publish(weights, run, "gli", config, split, {}, "", "CC0-1.0").trained_on


def test_a_file_of_another_task_is_never_written_over(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    write_weights(weights, [random_network(seed=1)], task="ssa")
    manifest = json.loads((weights / "manifest.json").read_text())
    (weights / manifest["members"][0]["file"]).rename(weights / "gli-0.safetensors")
    manifest["members"][0]["file"] = "gli-0.safetensors"
    (weights / "manifest.json").write_text(json.dumps(manifest))
    published(weights, run_of(tmp_path / "run", seed=2))
    members = read_manifest(weights)
    assert [member.file for member in members] == ["gli-0.safetensors", "gli-1.safetensors"]
    for member in members:
        assert hashlib.sha256((weights / member.file).read_bytes()).hexdigest() == member.sha256


def test_the_manifest_tells_all_that_was_trained_on(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", seed=2)
    told = published(tmp_path / "weights", run, sha256="abc", anatomy="mni152")
    assert told == (
        "a, b; 1 phantoms; phantoms made while training (anatomy: mni152); begun with the weights of sha256 abc"
    )


def test_runs_that_publish_at_the_same_time_are_all_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(path: Path, content: bytes) -> None:
        time.sleep(0.05)
        write_atomically(path, content)

    monkeypatch.setattr("brats_infer.train.publish.write_atomically", slowly)
    runs = [run_of(tmp_path / f"run{seed}", seed) for seed in range(4)]
    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(partial(published, tmp_path / "weights"), runs))
    assert [member.fold for member in read_manifest(tmp_path / "weights")] == [0, 1, 2, 3]
    assert len({member.sha256 for member in read_manifest(tmp_path / "weights")}) == 4


def test_what_cannot_be_published_to_is_named(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", seed=2)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file: cannot be used \(File exists\): choose another --publish"):
        open_members(tmp_path / "file")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(WeightsError, match=r"manifest\.json: is not a manifest"):
        published(tmp_path, run)
    whole = (run / BEST).read_bytes()
    (run / BEST).unlink()
    with pytest.raises(OutputError, match=f"{BEST}: cannot be used"):
        published(tmp_path / "weights", run)
    (run / BEST).write_bytes(whole[:-1])
    with pytest.raises(OutputError, match=rf"{BEST}: is damaged \(.*\): check the disk"):
        published(tmp_path / "weights", run)
    assert not np.any([path.suffix == ".safetensors" for path in (tmp_path / "weights").iterdir()])
