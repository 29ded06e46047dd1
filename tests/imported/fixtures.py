"""nnU-Net models of `make_models.py`, and members that are made of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_infer.imported.labels import outputs_of
from brats_infer.imported.model import Wanted
from brats_infer.imported.write import import_model
from brats_infer.tasks import MODALITIES, TASKS
from model.config import Member

MODELS = Path(__file__).parent / "models"
NAMES = sorted(path.parent.name for path in MODELS.glob("*/expected.npz"))
GLI = TASKS["gli"]
CASE = MODELS / "BraTS-GLI-00001-000"
FILES = {modality.name: CASE / f"{CASE.name}-{modality.name}.nii.gz" for modality in MODALITIES}


def model_folder(name: str, parent: Path = MODELS) -> Path:
    """The folder of the trained model, with plans.json and dataset.json."""
    (plans,) = (parent / name).glob("*/*/plans.json")
    return plans.parent


def imported(name: str, weights: Path, **wanted: Any) -> list[Member]:
    """The members of a model, in a weights folder."""
    return import_model(MODELS / name, weights, GLI, "CC0-1.0", Wanted(**wanted))


def copied(name: str, parent: Path) -> Path:
    """A copy of a model that a test may change."""
    shutil.copytree(MODELS / name, parent / name)
    return model_folder(name, parent)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_plans(folder: Path, **changes: Any) -> None:
    """Changes the configuration of a model's plans."""
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"] |= changes
    (folder / "plans.json").write_text(json.dumps(plans))


def nnunet_says(name: str, mirrored: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """nnU-Net's own (labels (X, Y, Z), every third probability (R, x, y, z)), in the numbers and order of the task."""
    suffix = "-mirrored" if mirrored else ""
    dataset = json.loads((model_folder(name) / "dataset.json").read_text())
    with np.load(MODELS / name / "expected.npz") as stored:
        labels, probabilities = stored[f"labels{suffix}"].T, stored[f"probabilities{suffix}"].transpose(0, 3, 2, 1)
    outputs = outputs_of(dataset["labels"], dataset.get("regions_class_order"), GLI)
    probabilities, own = probabilities[list(outputs.order)], [region.label for region in GLI.regions]
    numbers = np.zeros(8, np.uint8)
    if outputs.background:
        numbers[list(outputs.order[1:])] = own
        probabilities = np.cumsum(probabilities[:0:-1], axis=0)[::-1]
    else:
        numbers[[dataset["regions_class_order"][channel] for channel in outputs.order]] = own
    return numbers[labels], probabilities
