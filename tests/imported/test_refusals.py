"""Models that cannot be members: one line that names the file, and nothing is written."""

import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brats_infer.errors import ExitCode, WeightsError
from brats_infer.imported.model import Wanted
from brats_infer.imported.untrusted import read_checkpoint
from brats_infer.imported.write import import_model
from tests.imported.fixtures import GLI, MODELS, change_json, change_plans, copied

ROOT = Path(__file__).parents[2]
Change = Callable[[Path], object]


def checkpoint(folder: Path) -> Path:
    return next(folder.glob("fold_*/checkpoint_final.pth"))


def change_checkpoint(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(checkpoint(folder), weights_only=True)
    change(content)
    torch.save(content, checkpoint(folder))


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch was-run",)


def with_payload(folder: Path) -> None:
    change_checkpoint(folder, lambda content: content.update(payload=Payload()))


def truncated(folder: Path) -> None:
    checkpoint(folder).write_bytes(checkpoint(folder).read_bytes()[:20_000])


def of_labels(**labels: object) -> Change:
    return lambda folder: change_json(folder / "dataset.json", labels={"background": 0, **labels})


def plans(**changes: Any) -> Change:
    return lambda folder: change_plans(folder, **changes)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    return lambda folder: change_checkpoint(folder, lambda content: change(content["network_weights"]))


SEVEN = {str(i): name for i, name in enumerate(("t1n", "t1c", "t2w", "t2f", "adc", "swi", "cbv"))}
HEAD, TWIN = "decoder.seg_layers.0.weight", "decoder.encoder.stages.0.0.convs.0.conv.weight"
FLAT = [[1, 3, 3], [3, 3, 3]]
REFUSED: dict[str, tuple[str, str, Change]] = {
    "payload": ("checkpoint_final.pth", r"would run (posix|os)\.system", with_payload),
    "truncated": ("checkpoint_final.pth", "damaged", truncated),
    "another program": (
        "checkpoint_final.pth", "no checkpoint of nnU-Net", lambda f: torch.save({"a": torch.zeros(1)}, checkpoint(f)),
    ),
    "no dictionary": ("checkpoint_final.pth", "holds a list", lambda f: torch.save([1], checkpoint(f))),
    "another trainer": (
        "checkpoint_final.pth", "trainer MyTrainer",
        lambda f: change_checkpoint(f, lambda c: c.update(trainer_name="MyTrainer")),
    ),
    "a trainer of another folder": (
        "checkpoint_final.pth", "nnUNetTrainerBN",
        lambda f: change_checkpoint(f, lambda c: c.update(trainer_name="nnUNetTrainerBN")),
    ),
    "parameter too many": (
        "checkpoint_final.pth", "encoder.extra.weight", weights(lambda w: w.update({"encoder.extra.weight": w[HEAD]})),
    ),
    "parameter too few": (
        "checkpoint_final.pth", r"up\.1\.up\.bias", weights(lambda w: w.pop("decoder.transpconvs.0.bias")),
    ),
    "twins that differ": ("checkpoint_final.pth", "decoder.encoder", weights(lambda w: w.update({TWIN: w[TWIN] + 1}))),
    "NaN": (
        "checkpoint_final.pth", "NaN", weights(lambda w: w.update({HEAD: torch.full_like(w[HEAD], float("nan"))})),
    ),
    "plans of another network": (
        "checkpoint_final.pth", "shape",
        lambda f: (f / "plans.json").write_text((f / "plans.json").read_text().replace("[4, 6]", "[4, 8]")),
    ),
    "plans of other kernels": (
        "checkpoint_final.pth", "shape",
        lambda f: (f / "plans.json").write_text(
            (f / "plans.json").read_text().replace('"kernel_sizes": [[3, 3, 3]', '"kernel_sizes": [[1, 3, 3]')
        ),
    ),
    "no plans of the configuration": (
        "plans.json", "no configuration 3d_fullres", lambda f: change_json(f / "plans.json", configurations={"2d": {}}),
    ),
    "plans that are none": ("plans.json", "JSON", lambda f: (f / "plans.json").write_text("{")),
    "lower resolution": ("plans.json", r"2 x 2 x 2 mm", plans(spacing=[2.0, 2.0, 2.0])),
    "cascade": ("plans.json", "cascade after 3d_lowres", plans(previous_stage="3d_lowres")),
    "two axes": ("plans.json", "2 axes", plans(patch_size=[64, 64])),
    "patch that does not fit": ("plans.json", "17 x 16 x 16", plans(patch_size=[17, 16, 16])),
    "CT": ("plans.json", "CTNormalization", plans(normalization_schemes=["CTNormalization"] * 4)),
    "mixed masks": ("plans.json", "some channels inside", plans(use_mask_for_norm=[True, True, False, True])),
    "another network": (
        "plans.json", "Primus", plans(architecture={"network_class_name": "a.b.Primus", "arch_kwargs": {}}),
    ),
    "unknown reader": (
        "plans.json", "MyReader", lambda f: change_json(f / "plans.json", image_reader_writer="MyReader"),
    ),
    "seven channels": (
        "dataset.json", "takes 7 channels", lambda f: change_json(f / "dataset.json", channel_names=SEVEN),
    ),
    "channels without names": (
        "dataset.json", "--channels",
        lambda f: change_json(f / "dataset.json", channel_names=dict.fromkeys("0123", "MRI") | {"0": "a"}),
    ),
    "resection cavity": ("dataset.json", "RC", of_labels(NCR=1, ED=2, ET=3, RC=4)),
    "label without a name of ours": ("dataset.json", "'blob'", of_labels(NCR=1, blob=2, ET=3)),
    "one region": ("dataset.json", "regions WT", of_labels(WT=[1, 2])),
    "regions that are not nested": ("dataset.json", "TC", of_labels(WT=[1, 2, 3], TC=[1, 4], ET=[3])),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_member_is_refused_in_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, reason, change = REFUSED[name]
    folder = copied("plain2-regions", tmp_path)
    change(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError) as refused:
        import_model(folder, tmp_path / "weights", GLI, "CC0-1.0", Wanted())
    assert re.search(reason, str(refused.value))
    assert str(folder) in str(refused.value)
    assert file in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "weights").exists()
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (Wanted(folds=("0", "4")), r"no fold 4, it has 0, 1: choose other --folds"),
        (Wanted(checkpoint="best"), r"checkpoint_best.pth: is missing, its folder has checkpoint_final.pth"),
    ],
)
def test_missing_folds_and_checkpoints_are_named(wanted: Wanted, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=reason):
        import_model(MODELS / "plain2-regions", tmp_path / "weights", GLI, "CC0-1.0", wanted)
    assert not (tmp_path / "weights").exists()


def test_the_command_ends_with_5_and_one_line(tmp_path: Path) -> None:
    folder = copied("plain2-regions", tmp_path)
    with_payload(folder)
    code = "import sys; from brats_infer.cli import main; main()"
    given = ("import", str(folder), "--task", "gli", "--weights", str(tmp_path / "weights"), "--licence", "CC0-1.0")
    done = subprocess.run([sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.WEIGHTS, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not (tmp_path / "weights").exists()
    assert not (ROOT / "was-run").exists()


def test_a_file_or_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    for path, reason in (
        (tmp_path, "is no model"),
        (tmp_path / "missing", "is no model"),
        (tmp_path / "notes.txt", "damaged"),
        (tmp_path / "other.pt", "no DynUNet"),
        (MODELS, "is no model"),
    ):
        with pytest.raises(WeightsError, match=reason):
            import_model(path, tmp_path / "weights", GLI, "CC0-1.0", Wanted())


class Loud:
    def __init__(self, call: Any, *given: Any) -> None:
        self.reduced = (call, given)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


@pytest.mark.parametrize(
    "call", [os.system, eval, exec, subprocess.Popen, __import__, getattr, np.load], ids=lambda call: call.__name__
)
def test_no_function_of_a_pickle_is_called(call: Any, tmp_path: Path) -> None:
    torch.save({"network_weights": {}, "extra": Loud(call, "touch was-run")}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=rf"would run [\w.]*{call.__name__}"):
        read_checkpoint(tmp_path / "bad.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Loud(call, "touch was-run")))
    with pytest.raises(WeightsError):
        read_checkpoint(tmp_path / "old.pth")


def test_numbers_and_arrays_of_numpy_are_read(tmp_path: Path) -> None:
    """nnU-Net's training state holds them."""
    state = {
        "_best_ema": np.float64(0.5),
        "logging": {"dice": [np.float32(0.25)], "of": np.arange(3)},
        "n": np.int64(2),
    }
    torch.save(state, tmp_path / "good.pth")
    found = read_checkpoint(tmp_path / "good.pth")
    assert (found["_best_ema"], found["logging"]["dice"], found["n"]) == (0.5, [0.25], 2)
    assert found["logging"]["of"].tolist() == [0, 1, 2]


def test_flipped_bytes_never_run_or_end_in_another_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = checkpoint(copied("plain2-regions", tmp_path)).read_bytes()
    refused = []
    for _ in range(60):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 20):
            damaged[at] ^= int(rng.integers(1, 256))
        (tmp_path / "damaged.pth").write_bytes(damaged)
        try:
            assert isinstance(read_checkpoint(tmp_path / "damaged.pth"), Mapping)
        except WeightsError as error:
            refused.append(str(error))
    assert refused
    assert all(line.startswith(f"{tmp_path / 'damaged.pth'}: ") for line in refused)


def test_an_archive_that_is_no_checkpoint_is_damaged(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(WeightsError, match="damaged"):
        read_checkpoint(tmp_path / "zip.pth")
