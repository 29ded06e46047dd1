"""`brats-opt report`: predictions scored against references, lesion by lesion, the worst case first."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError, OutputError
from brats_infer.evaluate.folder_scores import evaluate_folders
from brats_infer.evaluate.label_maps import read_pair, rounded_spacing
from brats_infer.evaluate.metrics2024.region_scores import settings_of
from brats_infer.evaluate.pairs import Pair, find_pairs
from brats_infer.evaluate.scores import CohortScores, Table
from brats_infer.files.cases import Case
from brats_infer.files.nifti import Volume
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import crop_labels
from brats_infer.labelling.label_map import label_volumes, region_volumes
from brats_infer.report.lesions import LEGEND, ScoredRegion, judge, scored_regions
from brats_infer.report.page import write_page
from brats_infer.report.picture import draw_picture, grey
from brats_infer.report.record import LOW_DICE, head, legend_of, peak_memory, write_record
from brats_infer.report.run_report import DATA, PICTURES, make_parts, remove_others
from brats_infer.report.sight import on_images, read_cropped, sight_of
from brats_infer.report.volumes import write_volumes
from brats_infer.tasks import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Shown:
    """What the report shows of a case beside its scores."""

    lesions: list[dict[str, Any]]
    millilitres: dict[str, dict[str, float]]
    """{"labels_ml", "regions_ml"}"""
    warnings: tuple[str, ...]
    visible: bool
    """Whether it has images."""


def compare_folders(
    predictions: Path,
    references: Path,
    images: Path,
    out: Path,
    task: Task,
    before: Path | None = None,
    jobs: int | None = None,
    channels: Sequence[str] = (),
    metrics: str | None = None,
) -> CohortScores:
    """Writes the report of predictions and references into `out`, and returns the scores.

    `metrics` are those of 2023 or 2024, by default the challenge's own.
    `before` holds the predictions before post-processing, which are scored too. `jobs` cases are worked on at a time;
    `channels` is as in `find_cases`. A case without usable images is scored but not shown, with a warning.
    Raises as `evaluate_folders`; OutputError.
    """
    began = time.perf_counter()
    metrics = metrics or task.own_metrics
    regions = scored_regions(task, metrics)
    cases = {case.id: case for case in find_cases(images, task.name, channels=channels)}
    if before:
        find_pairs(before, references)  # raises before the scores are computed
    scores = evaluate_folders(predictions, references, task, metrics, jobs)
    earlier: dict[str, Table] = {}
    if before:
        older = evaluate_folders(before, references, task, metrics, jobs)
        earlier = {case_id: table for case_id, table in older.cases.items() if case_id not in older.missing}
        scores = replace(scores, warnings=tuple(dict.fromkeys((*scores.warnings, *older.warnings))))
    try:
        make_parts(out)

        def show(pair: Pair) -> dict[str, Any]:
            shown = _show(pair, cases.get(pair.id), task, regions, out)
            return _record(pair, scores.cases[pair.id], earlier.get(pair.id), shown, task)

        with ThreadPoolExecutor(jobs or 2) as pool:
            records = list(pool.map(show, find_pairs(predictions, references)))
        folders = {"predictions": predictions, "references": references, "images": images, "before": before}
        content = _content(records, task, metrics, folders, time.perf_counter() - began)
        remove_others(out, records)
        write_record(out, content)
        write_page(out, content)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}): choose another --out") from error
    return scores


def _content(
    records: list[dict[str, Any]], task: Task, metrics: str, folders: dict[str, Path | None], seconds: float
) -> dict[str, Any]:
    """report.json, the worst case first."""
    first, regions = head("scores"), scored_regions(task, metrics)
    first["tasks"][task.name] |= {"regions": {region.name: list(region.labels) for region in regions}}
    if metrics == "2024":
        first["tasks"][task.name] |= {"penalty_mm": settings_of(task).penalty_mm}
    chosen = {"task": task.name, "metrics": metrics}
    return {
        **first,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "peak_memory": peak_memory(),
        "options": {**chosen, **{name: str(folder) for name, folder in folders.items() if folder}},
        "overlays": _overlays(task, regions),
        "cases": sorted(records, key=lambda record: (record["mean_dice"], record["id"])),
    }


def _overlays(task: Task, regions: Sequence[ScoredRegion]) -> list[dict[str, Any]]:
    legend = legend_of(task)
    parts = [{"name": region.name, "title": region.name, "legend": LEGEND} for region in regions]
    named = (("labels", "prediction"), ("reference", "reference"))
    return parts + [{"name": name, "title": title, "legend": legend} for name, title in named]


def _show(pair: Pair, case: Case | None, task: Task, regions: Sequence[ScoredRegion], out: Path) -> _Shown:
    """Judges every region of a case, and draws the case if it has images."""
    maps = read_pair(pair, task)
    prediction = np.zeros_like(maps.reference) if maps.prediction is None else maps.prediction
    volumes = _volumes(prediction, task, regions, float(np.prod(maps.spacing)))
    try:
        if case is None:
            raise CaseError(f"{pair.id}: --images holds no such case: only its scores are shown")
        cropped, warnings = read_cropped(case)
        placed = on_images(Volume(maps.reference, maps.geometry), pair.reference, cropped, pair.id)
        prediction = on_images(Volume(prediction, maps.geometry), pair.reference, cropped, pair.id).data
    except CaseError as error:
        return _Shown([], volumes, (*maps.warnings, str(error)), visible=False)
    reference, warnings = placed.data, (*maps.warnings, *placed.warnings, *warnings)
    affine, spacing = cropped.restore.geometry.affine, rounded_spacing(cropped.restore.geometry)
    judged = {region.name: judge(prediction, reference, region, spacing, affine) for region in regions}
    overlays = {name: crop_labels(parts, cropped.restore) for name, (parts, _) in judged.items()}
    sight = sight_of(pair.id, task, cropped, prediction, warnings)
    overlays |= {"labels": sight.labels, "reference": crop_labels(reference, cropped.restore)}
    greys = [grey(image) for image in sight.images]
    draw_picture(greys, sight.labels, task, pair.id, sight.millilitres, out / PICTURES / f"{pair.id}.png")
    write_volumes(out / DATA / f"{pair.id}.js", pair.id, task, greys, overlays, sight.affine)
    lesions = [
        {"number": n, **lesion} for n, lesion in enumerate((x for _, found in judged.values() for x in found), 1)
    ]
    return _Shown(lesions, volumes, sight.warnings, visible=True)


def _volumes(
    labels: NDArray[np.uint8], task: Task, regions: Sequence[ScoredRegion], voxel_mm3: float
) -> dict[str, dict[str, float]]:
    of_labels = label_volumes(labels, task, voxel_mm3)
    labels_of = {region.name: region.labels for region in regions}
    return {"labels_ml": of_labels, "regions_ml": region_volumes(of_labels, task, labels_of)}


def _record(pair: Pair, scores: Table, before: Table | None, shown: _Shown, task: Task) -> dict[str, Any]:
    mean = float(np.mean([region["lesionwise_dice"] for region in scores.values()]))
    flags = ["missing"] if pair.prediction is None else (["low"] if mean < LOW_DICE else [])
    return {
        "id": pair.id,
        "task": task.name,
        "status": "scored",
        "flags": flags,
        "message": "no prediction: it got the worst scores" if pair.prediction is None else "",
        "warnings": list(shown.warnings),
        **shown.millilitres,
        "mean_dice": round(mean, 4),
        "scores": scores,
        **({"before": before} if before else {}),
        "lesions": shown.lesions,
        "picture": f"{PICTURES}/{pair.id}.png" if shown.visible else None,
        "viewer": f"{DATA}/{pair.id}.js" if shown.visible else None,
    }
