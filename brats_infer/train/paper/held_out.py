"""Lesion-wise scores of a network on held-out cases, with the paper's post-processing (a run's own goes further)."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from brats_infer.errors import UsageError, WeightsError
from brats_infer.evaluate.folder_scores import judge_pair
from brats_infer.evaluate.pairs import REFERENCE_ENDINGS, Pair, find_labels
from brats_infer.evaluate.score_files import write_csv
from brats_infer.evaluate.scores import CohortScores, mean_of
from brats_infer.files.cases import Case
from brats_infer.files.nifti import write_labels
from brats_infer.files.search.find import find_cases
from brats_infer.image.normalise import Normalisation
from brats_infer.network.ensemble import Ensemble
from brats_infer.network.loading import ensemble_of
from brats_infer.pipeline import label, predict, read
from brats_infer.settings import Settings
from brats_infer.tasks import Task
from brats_infer.train.monitor.validation import AS_PREDICTED
from brats_infer.train.transfer import Initial
from model.checkpoint import CheckpointError, load_reference
from model.unet import UNet

log = logging.getLogger(__name__)

PAPER = Settings(dust=50, component_probability=0)
"""The paper's post-processing."""
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
    ensemble = _ensemble(weights, task, device)
    settings = PAPER if postprocess else AS_PREDICTED
    (out / "labels").mkdir(parents=True, exist_ok=True)
    tables = {}
    for case_id in ids:
        prediction = out / "labels" / cases[case_id].output_name
        _segment(cases[case_id], ensemble, task, settings, prediction)
        scored = judge_pair(Pair(case_id, references[case_id], prediction), task)
        tables[case_id] = scored.table
        for warning in scored.warnings:
            log.warning("warning: %s", warning)
    scores = CohortScores(task.name, "2023", tables, mean_of(tables.values()), ())
    write_csv(scores, out / "scores.csv")
    return scores


def _ensemble(weights: Initial, task: Task, device: torch.device) -> Ensemble:
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
    return ensemble_of(task, [(weights.member, network)], device, references)


def _segment(case: Case, ensemble: Ensemble, task: Task, settings: Settings, path: Path) -> None:
    labelled = label(predict(read(case, ensemble), ensemble, settings), task, settings)
    write_labels(path, labelled.labels, labelled.restore.geometry)
