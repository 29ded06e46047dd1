"""Lesion-wise scores of a network on held-out cases, with the paper's post-processing (a run's own goes further)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.errors import CaseError, UsageError, WeightsError
from brats_infer.evaluate.pairs import REFERENCE_ENDINGS, Pair, find_labels
from brats_infer.evaluate.score_files import write_csv
from brats_infer.evaluate.scores import CohortScores, mean_of, score_pair
from brats_infer.files.cases import Case, find_cases
from brats_infer.files.nifti import read_images, write_labels
from brats_infer.image.crop import crop_to_brain
from brats_infer.image.normalise import Normalisation
from brats_infer.labelling.label_map import inside_brain, label_map, outcome_of
from brats_infer.labelling.postprocess import clean
from brats_infer.network.ensemble import Ensemble
from brats_infer.settings import Settings
from brats_infer.tasks import Task
from brats_infer.train.transfer import Initial
from model.checkpoint import CheckpointError, load_reference
from model.unet import UNet

NO_MANIFEST = "no manifest beside it tells how to use it: give a weights folder"


def score_held_out(
    weights: Initial, ids: Sequence[str], data: Path, task: Task, postprocess: bool, out: Path, device: torch.device
) -> CohortScores:
    """Segments cases of a folder with labels into `out/labels`, and scores them; the table is `out/scores.csv`.

    Raises UsageError for weights without a manifest, WeightsError for a reference histogram that is missing or damaged,
    CaseError for a case that cannot be read.
    """
    cases = {case.id: case for case in find_cases(data, task.name)}
    references = find_labels(data, REFERENCE_ENDINGS)
    ensemble = _ensemble(weights, device)
    (out / "labels").mkdir(parents=True, exist_ok=True)
    tables = {}
    for case_id in ids:
        prediction = out / "labels" / cases[case_id].output_name
        _segment(cases[case_id], ensemble, task, postprocess, prediction)
        tables[case_id] = score_pair(Pair(case_id, references[case_id], prediction), task)
    scores = CohortScores(task.name, "2023", tables, mean_of(tables.values()), ())
    write_csv(scores, out / "scores.csv")
    return scores


def _ensemble(weights: Initial, device: torch.device) -> Ensemble:
    if weights.member is None:
        raise UsageError(f"--init {weights.path}: {NO_MANIFEST}")
    network = UNet(weights.member.config).eval()
    weights.put_into(network)
    references = {}
    if weights.member.normalisation == Normalisation.HISTOGRAM:
        try:
            references[weights.member.file] = load_reference(weights.path.parent, weights.member)
        except CheckpointError as error:
            raise WeightsError(str(error)) from error
    return Ensemble(((weights.member, network),), device, references)


def _segment(case: Case, ensemble: Ensemble, task: Task, postprocess: bool, path: Path) -> None:
    if case.problem:
        raise CaseError(case.problem)
    cropped = crop_to_brain(read_images(case.paths.values()))
    restore, prepared = cropped.restore, ensemble.prepare(cropped)
    found = outcome_of(ensemble.predict(prepared, Settings()), restore, task)

    def cleaned(labels: NDArray[np.uint8], _: object) -> NDArray[np.uint8]:
        return clean(labels, task, restore.geometry.voxel_mm3) if postprocess else labels

    write_labels(path, label_map(inside_brain(found, prepared.brain), restore, task, cleaned), restore.geometry)
