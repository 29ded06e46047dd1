"""Many studies in, many cases out; and their label maps back. One line for each that fails."""

import html
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from brats_infer.errors import CaseError, NoCasesError, UsageError, printable
from brats_infer.files.cases import ID_RULE, is_safe_id
from brats_infer.prepare.brain import BrainMember
from brats_infer.prepare.case_of_study import prepare_case
from brats_infer.prepare.record import RECORD, Record, read_record, record_of
from brats_infer.prepare.restore import Restored, restore_case
from brats_infer.prepare.studies.study import Study, find_studies, read_study
from brats_infer.prepare.write import write_case
from brats_infer.settings import Atlas, Missing
from brats_infer.tasks import MODALITIES, Task, task_named, task_of_id
from model.atomic import write_atomically

log = logging.getLogger(__name__)

PAGE = "index.html"
ENDING = ".nii.gz"


@dataclass(frozen=True)
class PrepareOptions:
    """How studies are prepared."""

    atlas: Atlas = Atlas.SRI24
    missing: Missing = Missing.FAIL
    series: Mapping[str, str] = field(default_factory=dict)
    """{contrast: number of a DICOM series, or name of a NIfTI file}"""
    brain: str | None = None
    """Name of a file in each study: the brain's mask, in the space of the reference."""
    resume: bool = False
    """Whether cases with a record are left alone."""


@dataclass(frozen=True)
class Outcome:
    """The result of one study or case."""

    name: str
    problem: str | None = None
    """One line; None if all was written."""


def prepare_studies(
    studies: Path, out: Path, options: PrepareOptions, tell: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """Prepares each study folder of `studies` as `OUT/ID/`, and writes a page over all of them.

    Raises NoCasesError without a study, OutputError if `out` cannot be written, WeightsError without a brain member.
    """
    member = BrainMember()
    outcomes = []
    for folder in find_studies(studies):
        name = folder.resolve().name
        if options.resume and (out / name / RECORD).is_file():
            outcomes.append(Outcome(name))
            continue
        try:
            record = _prepare(folder, out / name, options, member)
            tell(f"{name}: {', '.join(record.contrasts)}; brain {record.brain_ml:.0f} ml")
            outcomes.append(Outcome(name))
        except CaseError as error:
            log.error("%s", error)
            outcomes.append(Outcome(name, str(error)))
        except RuntimeError as error:  # of SimpleITK; the other studies go on
            log.debug("", exc_info=error)
            reason = printable(str(error))[-200:]
            outcomes.append(Outcome(name, f"{name}: cannot be registered ({reason}): look at its scans"))
            log.error("%s", outcomes[-1].problem)
    _write_page(out, outcomes)
    return outcomes


def restore_cases(
    labels: Path,
    prepared: Path,
    out: Path,
    task_name: str,
    probabilities: Path | None = None,
    studies: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Puts each `LABELS/ID.nii.gz` on the scans of `PREPARED/ID`, as `OUT/ID/ID-on-CONTRAST.nii.gz`.

    `probabilities` are those of the same run. With the `studies`, a DICOM Segmentation is written for each series.
    Raises NoCasesError without a map, OutputError if `out` cannot be written.
    """
    maps = sorted(labels.glob(f"*{ENDING}"))
    if not maps:
        raise NoCasesError(f"{labels}: holds no label map: expected {{ID}}.nii.gz")
    outcomes = []
    for path in maps:
        name = path.name.removesuffix(ENDING)
        try:
            task = task_of(name, task_name)
            kept = probabilities / path.name if probabilities and (probabilities / path.name).is_file() else None
            (out / name).mkdir(parents=True, exist_ok=True)
            restored = restore_case(name, path, prepared / name, out / name, task, kept)
            if studies:
                _write_dicom(name, studies, prepared, restored, task)
            tell(f"{name}: {', '.join(f'{each.contrast} {each.millilitres:.1f} ml' for each in restored)}")
            outcomes.append(Outcome(name))
        except CaseError as error:
            log.error("%s", error)
            outcomes.append(Outcome(name, str(error)))
    return outcomes


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
        scans = {contrast: scan.image for contrast, scan in study.scans.items()}
        prepared = prepare_case(study.name, scans, options.atlas, member, mask)
        record = record_of(prepared, study, options.atlas.value)
        for note in prepared.remarks:
            log.warning("%s: %s", study.name, note)
        write_case(prepared, record, out)
    return record


def _check_contrasts(study: Study, missing: Missing) -> None:
    lacking = [modality.name for modality in MODALITIES if modality.name not in study.scans]
    if lacking and (missing is Missing.FAIL or not {"t1c", "t2f"} & set(study.scans)):
        there = ", ".join(study.scans) or "none of the four contrasts"
        raise CaseError(
            f"{study.name}: has no {' and no '.join(lacking)} (found {there}): name a series by "
            f"--series {lacking[0]}=…, or use --missing use"
        )


def task_of(name: str, task_name: str) -> Task:
    """The challenge that is given, or that an ID tells. Raises UsageError."""
    task = task_of_id(name) if task_name == "auto" else task_named(task_name)
    if task is None:
        raise UsageError(f"{name}: its name tells no challenge: give --task")
    return task


def _write_dicom(name: str, studies: Path, prepared: Path, restored: Sequence[Restored], task: Task) -> None:
    """A DICOM Segmentation for each scan that came from a series. Raises CaseError."""
    from brats_infer.files.nifti import read_volume
    from brats_infer.prepare.dicom_segmentation import write_segmentation

    record = read_record(prepared / name)
    chosen = {contrast: scanned.series for contrast, scanned in record.contrasts.items()}
    folders = {folder.resolve().name: folder for folder in find_studies(studies)}
    if name not in folders:
        raise CaseError(f"{name}: is no study in {studies}: give the folder that prepare read")
    with tempfile.TemporaryDirectory(prefix="brats-opt-") as work:
        study = read_study(folders[name], Path(work), chosen)
    for each in restored:
        if not study.scans[each.contrast].dicom:
            continue
        volume = read_volume(each.path)
        target = each.path.with_name(each.path.name.removesuffix(ENDING) + ".dcm")
        names = {label: task.name_of(label) for label in task.labels}
        labels = volume.data.astype("uint8")
        write_segmentation(target, labels, volume.geometry.affine, study.scans[each.contrast].dicom, names)


def _write_page(out: Path, outcomes: Sequence[Outcome]) -> None:
    """`OUT/index.html`: the picture and the figures of each case, failures first."""
    parts = []
    for outcome in sorted(outcomes, key=lambda each: (each.problem is None, each.name)):
        name = html.escape(outcome.name)
        if outcome.problem:
            parts.append(f"<h2>{name}</h2><p class=problem>{html.escape(outcome.problem)}</p>")
            continue
        record = read_record(out / outcome.name)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in record.notes)
        parts.append(
            f"<h2>{name}</h2><p>Brain {record.brain_ml:.0f} ml; atlas {html.escape(record.atlas)}.</p>"
            f"<img src='{name}/prepare.png' alt='contrasts, brain mask, checkerboards'>{_table(record)}<ul>{notes}</ul>"
        )
    failed = sum(outcome.problem is not None for outcome in outcomes)
    style = "body{background:#111;color:#ddd;font:15px sans-serif;margin:2em}img{max-width:100%}.problem{color:#ff8a70}"
    style += "td,th{padding:2px 14px 2px 0;text-align:left}"
    title = f"{len(outcomes) - failed} studies prepared, {failed} failed"
    page = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style><h1>{title}</h1>"
    write_atomically(out / PAGE, (page + "".join(parts)).encode())


def _table(record: Record) -> str:
    rows = ["<tr><th>contrast<th>from<th>voxels<th>mm<th>registered to<th>directions differ by<th>mutual information"]
    for contrast, scan in record.contrasts.items():
        size, spacing = "x".join(map(str, scan.size)), " x ".join(f"{mm:.2f}" for mm in scan.spacing)
        found = scan.registration
        quality = (
            f"<td>{found.to}<td>{found.disagreement_mm:.2f} mm<td>{found.information_before:.2f} → "
            f"{found.information:.2f}"
            if found
            else "<td>—<td>—<td>—"
        )
        rows.append(f"<tr><td>{contrast}<td>{html.escape(scan.source)}<td>{size}<td>{spacing}{quality}")
    return f"<table>{''.join(rows)}</table>"
