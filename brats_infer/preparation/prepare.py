"""Many studies in, many cases out. One line for each study that fails."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from brats_infer.errors import CaseError, printable
from brats_infer.files.cases import ID_RULE, is_safe_id
from brats_infer.preparation.case_of_study import Prepared, prepare_case
from brats_infer.preparation.masks.brain import BrainMember
from brats_infer.preparation.masks.coverage import MIN_COVERAGE, WHOLE_COVERAGE
from brats_infer.preparation.outcome import Outcome
from brats_infer.preparation.page import write_page
from brats_infer.preparation.record import RECORD, Record, record_of
from brats_infer.preparation.studies.study import Study, find_studies, read_study
from brats_infer.preparation.write import write_case
from brats_infer.settings import Missing, PrepareOptions
from brats_infer.system.folders import prepare_folder
from brats_infer.tasks import MODALITIES

log = logging.getLogger(__name__)

ENOUGH = {"t1c", "t2f"}
"""A case needs one of them."""


def prepare(
    studies: Path | str,
    out: Path | str,
    options: PrepareOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Makes cases of raw scans: registers them, resamples them once, strips the skull.

    `studies` holds a folder for each examination, with DICOM series or NIfTI files on any grids; it may also be one
    such folder. A study becomes the case `OUT/STUDY/`: images (int16, 1 mm, 0 outside of the brain), transforms (mm,
    LPS), `prepare.png` and `prepare.json`. `OUT/index.html` shows all cases. `tell` receives a line for each case.
    Returns an outcome for each study; its `problem` is None, or a line that says why the study failed.
    Raises NoCasesError without a study, UsageError for an unusable option or folder and without the packages that DICOM
    needs, OutputError if `out` cannot be written, WeightsError without a brain member.
    """
    studies, out, options = Path(studies), Path(out), options or PrepareOptions()
    folders = find_studies(studies)
    prepare_folder(out, "--out", {"the input folder": studies})
    member = BrainMember()
    outcomes = [_outcome(folder, out, options, member, tell) for folder in folders]
    write_page(out, outcomes)
    return outcomes


def _outcome(
    folder: Path, out: Path, options: PrepareOptions, member: BrainMember, tell: Callable[[str], None]
) -> Outcome:
    """Prepares one study; a failure is its outcome."""
    name = folder.resolve().name
    if options.resume and (out / name / RECORD).is_file():
        return Outcome(name)
    try:
        record = _prepare(folder, out / name, options, member)
    except CaseError as error:
        problem = str(error)
    except RuntimeError as error:  # of SimpleITK; the other studies go on
        log.debug("", exc_info=error)
        problem = f"{name}: cannot be registered ({printable(str(error))[-200:]}): look at its scans"
    else:
        tell(f"{name}: {', '.join(record.contrasts)}; brain {record.brain_ml:.0f} ml")
        return Outcome(name)
    log.error("%s", problem)
    return Outcome(name, problem)


def _prepare(folder: Path, out: Path, options: PrepareOptions, member: BrainMember) -> Record:
    """One study. Raises CaseError."""
    if not is_safe_id(out.name):
        raise CaseError(f"{folder}: its name is no case ID ({ID_RULE}): rename it")
    with tempfile.TemporaryDirectory(prefix="brats-opt-") as work:
        study = read_study(folder, Path(work), options.series)
        _check_contrasts(study, options.missing)
        for note in study.notes:
            log.warning("%s: %s", study.name, note)
        mask = folder / options.brain if options.brain else None
        prepared, notes = _prepared(study, options, member, mask)
        record = record_of(prepared, replace(study, notes=(*study.notes, *notes)), options.atlas.value)
        write_case(prepared, record, out)
    return record


def _prepared(
    study: Study, options: PrepareOptions, member: BrainMember, mask: Path | None
) -> tuple[Prepared, list[str]]:
    """(the case, a note for each scan that shows a part of the brain only). Raises CaseError.

    A cut scan is left out where contrasts may be missing.
    """
    scans, notes = {contrast: scan.image for contrast, scan in study.scans.items()}, list[str]()
    while True:
        prepared = prepare_case(study.name, scans, options.atlas, member, mask)
        worst = min(prepared.coverage, key=lambda contrast: prepared.coverage[contrast])
        cut = prepared.coverage[worst] < MIN_COVERAGE
        if cut and (options.missing is Missing.FAIL or not ENOUGH & (set(scans) - {worst})):
            raise CaseError(
                f"{study.name}: {_coverage_text(prepared, study, worst)}: choose another one by --series {worst}=…, "
                f"or leave it out by --missing use"
            )
        partial = [worst] if cut else [c for c, share in prepared.coverage.items() if share < WHOLE_COVERAGE]
        for contrast in partial:
            notes.append(_coverage_text(prepared, study, contrast) + (", and was left out" if cut else ""))
            log.warning("%s: %s", study.name, notes[-1])
        if not cut:
            return prepared, notes
        del scans[worst]


def _coverage_text(prepared: Prepared, study: Study, contrast: str) -> str:
    share = 100 * prepared.coverage[contrast]
    return f"{contrast} ({study.scans[contrast].source}) covers {share:.0f} % of the brain"


def _check_contrasts(study: Study, missing: Missing) -> None:
    lacking = [modality.name for modality in MODALITIES if modality.name not in study.scans]
    if lacking and (missing is Missing.FAIL or not ENOUGH & set(study.scans)):
        there = ", ".join(study.scans) or "none of the four contrasts"
        raise CaseError(
            f"{study.name}: has no {' and no '.join(lacking)} (found {there}): name a series by "
            f"--series {lacking[0]}=…, or use --missing use"
        )
