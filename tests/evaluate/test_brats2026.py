"""The organizers' program of 2026: the real one where it is installed, and a stand-in with its faults."""

import gzip
import math
import os
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brats_infer.errors import CaseError, UsageError
from brats_infer.evaluate import evaluate_folders
from brats_infer.evaluate.brats2026 import PROGRAMS
from brats_infer.tasks import task_named
from tests.evaluate.small_cohort import IDS, write_cohort

GLI = task_named("gli")
EVALUATE = """#!{python}
import gzip, json, os, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
entries = []
for name in sorted(os.listdir(given["--ref_path"])):
    print(f"[1/1] Evaluating {{name}}...")
    for side in ("--ref_path", "--pred_path"):
        voxels = gzip.open(os.path.join(given[side], name)).read()
        with open({seen!r} + side, "ab") as kept:
            kept.write(voxels)
    fault = {fault!r} if name.startswith("00001") else ""
    if fault == "fails":
        sys.exit("no memory left")
    if fault != "drops":
        entries.append({{"subject_name": name, **({{"error": "shapes differ"}} if fault else {{"wt": {{"tp": 1}}}})}})
json.dump({{"metrics": entries, "missings": []}}, open(given["--summary_json"], "w"))
"""
PARSE = """#!{python}
import json, sys
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
summary = json.load(open(given["--json_path"]))
with open(given["--output_csv_path"], "w") as table:
    print("subject_id,all_instance_tp_wt,global_hd95_wt", file=table)
    for entry in summary["metrics"]:
        print(entry["subject_name"], entry["wt"]["tp"], "", sep=",", file=table)
    for name in summary["missings"]:
        print(name, 0, 373, sep=",", file=table)
    print("mean,0.5,373", file=table)
"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str = "") -> None:
    """Puts programs on the PATH that act like the package's; the fault strikes the second case."""
    folder.mkdir()
    for name, text in zip(PROGRAMS, (EVALUATE, PARSE), strict=True):
        (folder / name).write_text(text.format(python=sys.executable, fault=fault, seen=str(folder / "seen")))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_scores_and_mean_are_those_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "bin", monkeypatch)
    predictions, references = write_cohort(tmp_path)
    (predictions / f"{IDS[1]}.nii.gz").unlink()
    packed = predictions / f"{IDS[2]}.nii.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    scores = evaluate_folders(predictions, references, GLI, metrics="2026", jobs=2)
    assert scores.missing == (IDS[1],)
    assert list(scores.cases) == list(IDS)
    assert scores.cases[IDS[1]] == {"WT": {"all_instance_tp": 0, "global_hd95": 373}}
    assert scores.cases[IDS[2]]["WT"]["all_instance_tp"] == 1
    assert math.isnan(scores.cases[IDS[2]]["WT"]["global_hd95"])
    assert scores.mean == {"WT": {"all_instance_tp": 0.5, "global_hd95": 373}}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("errs", rf"1 of 3 cases: .*{IDS[1]}\.nii\.gz: shapes differ"),
        ("drops", f"left {IDS[1]} out"),
        ("fails", "no memory left"),
    ],
)
def test_a_case_that_the_program_loses_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    stand_in(tmp_path / "bin", monkeypatch, fault)
    with pytest.raises(CaseError, match=message):
        evaluate_folders(*write_cohort(tmp_path), GLI, metrics="2026", jobs=2)


def test_the_program_gets_the_maps_as_this_project_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no other axes than the reference's, no scale factors and no labels of 2021."""
    seen = []
    for name in ("plain", "odd"):
        stand_in(tmp_path / name, monkeypatch)
        (tmp_path / f"maps of {name}").mkdir()
        predictions, references = write_cohort(tmp_path / f"maps of {name}")
        for number, case_id in enumerate(IDS):
            (predictions / f"{case_id}.nii.gz").rename(predictions / f"BraTS2021_0000{number}.nii.gz")
            (references / f"{case_id}-seg.nii.gz").rename(references / f"BraTS2021_0000{number}_seg.nii.gz")
        if name == "odd":
            for path in predictions.iterdir():
                image = nib.load(path)
                nib.save(image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]])), path)
            for path in references.iterdir():
                image = nib.load(path)
                stored = np.asarray(image.dataobj)
                old = nib.Nifti1Image(np.where(stored == 3, 4, stored) * 1.0, image.affine)
                old.set_data_dtype(np.int16)
                nib.save(old, path)
        evaluate_folders(predictions, references, GLI, metrics="2026", jobs=1)
        seen.append([(tmp_path / name / f"seen{side}").read_bytes() for side in ("--ref_path", "--pred_path")])
    assert seen[0] == seen[1]


def test_without_the_program_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    folders = write_cohort(tmp_path)
    with pytest.raises(UsageError, match="pipx install brats-evaluation"):
        evaluate_folders(*folders, GLI, metrics="2026")
    with pytest.raises(UsageError, match="no settings for ssa"):
        evaluate_folders(*folders, task_named("ssa"), metrics="2026")


@pytest.mark.skipif(shutil.which(PROGRAMS[0]) is None, reason=f"{PROGRAMS[0]} of brats-evaluation is not on the PATH")
def test_the_real_program_scores_every_case(tmp_path: Path) -> None:
    predictions, references = write_cohort(tmp_path)
    (predictions / f"{IDS[1]}.nii.gz").unlink()
    scores = evaluate_folders(predictions, references, GLI, metrics="2026", jobs=1)
    assert list(scores.cases) == list(IDS)
    assert {"WT", "TC", "ET"} <= set(scores.mean)
    assert scores.cases[IDS[0]]["WT"]["all_instance_f1"] == 1.0
    assert 0.7 < scores.cases[IDS[0]]["WT"]["global_dsc"] < 1.0
    assert (scores.cases[IDS[1]]["WT"]["global_dsc"], scores.cases[IDS[1]]["WT"]["global_hd95"]) == (0.0, 373.0)
