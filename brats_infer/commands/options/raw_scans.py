"""`--raw`: what a run on raw scans does besides the segmentation."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_infer.errors import UsageError
from brats_infer.settings import PrepareOptions, Settings
from brats_infer.system.folders import prepare_folder

if TYPE_CHECKING:
    from brats_infer.report import RunReport


def segment_raw_scans(
    source: Path, target: Path, given: dict[str, Any], common: dict[str, Any], report: "RunReport | None"
) -> bool:
    """Prepares, segments, reports and restores the studies of a folder; whether any failed."""
    from brats_infer.cohort import segment_folder
    from brats_infer.preparation.raw import segment_raw
    from brats_infer.run.events import Status

    settings: Settings = common["settings"]
    results = []

    def segment(cases: Path, labels: Path, probabilities: Path) -> None:
        own = replace(settings, probabilities=probabilities)
        results.extend(segment_folder(cases, labels, **common | {"settings": own}))
        if report:
            report.write(labels, results)

    prepare_folder(target, "--output", {})
    options = PrepareOptions(missing=settings.missing, resume=settings.resume)
    outcomes = segment_raw(source, target, options, segment, given["task"], settings.probabilities)
    return any(outcome.problem for outcome in outcomes) or any(r.status is Status.FAILED for r in results)


def refuse_beside_raw(given: dict[str, Any]) -> None:
    """Raises UsageError for options that a run on raw scans does not have."""
    wrong = [name for name in ("ray", "channels") if given[name]]
    wrong += ["shard"] if given["shard"] and given["shard"].count > 1 else []
    if wrong:
        raise UsageError(f"--{wrong[0]}: is for prepared cases: leave it out beside --raw, or use prepare first")
