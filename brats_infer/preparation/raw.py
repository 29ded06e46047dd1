"""From raw scans to label maps on them in one go: prepare, segment, restore."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from brats_infer.errors import CaseError
from brats_infer.preparation.outcome import Outcome
from brats_infer.preparation.prepare import prepare
from brats_infer.preparation.record import RECORD
from brats_infer.preparation.restore import restore, task_of
from brats_infer.preparation.studies.study import find_studies
from brats_infer.settings import PrepareOptions

CASES, LABELS, NATIVE = "cases", "labels", "native"


def segment_raw(
    studies: Path,
    out: Path,
    options: PrepareOptions,
    segment: Callable[[Path, Path, Path], None],
    task: str,
    probabilities: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Writes `OUT/cases` as `prepare` does, `OUT/labels/ID.nii.gz`, and `OUT/native/ID/ID-on-CONTRAST.nii.gz`.

    `segment` takes folders of cases, label maps and probabilities; those go to `probabilities`, or to a temporary
    folder. Returns the outcome of each study. Raises CaseError if no study could be prepared, UsageError if a study
    tells no challenge.
    """
    for folder in find_studies(studies):
        task_of(folder.resolve().name, task)
    for name in (CASES, LABELS, NATIVE):
        (out / name).mkdir(exist_ok=True)
    prepared = prepare(studies, out / CASES, options, tell)
    if not any((out / CASES).glob(f"*/{RECORD}")):
        raise CaseError(f"{studies}: no study could be prepared: see the lines above")
    kept: AbstractContextManager[str | Path] = (
        nullcontext(probabilities) if probabilities else TemporaryDirectory(dir=out)
    )
    with kept as place:
        segment(out / CASES, out / LABELS, Path(place))
        restored = restore(out / LABELS, out / CASES, out / NATIVE, task=task, probabilities=Path(place), tell=tell)
    failed = [outcome for outcome in prepared if outcome.problem]
    return [*failed, *restored]
