"""Reads the study of a scanner: finds its four contrasts among DICOM series and NIfTI files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

from brats_infer.errors import CaseError, NoCasesError, UsageError
from brats_infer.files.nifti import Volume, read_volume
from brats_infer.files.search.tree import Links, walk
from brats_infer.preparation.studies.choice import best, series_candidates
from brats_infer.preparation.studies.convert import convert
from brats_infer.preparation.studies.copies import refuse_copies
from brats_infer.preparation.studies.headers import Series, is_dicom, read_series
from brats_infer.preparation.studies.named import named_candidates
from brats_infer.tasks import MODALITIES

CONTRASTS = tuple(modality.name for modality in MODALITIES)


@dataclass(frozen=True)
class Scan:
    """One contrast of a study."""

    image: Path
    """NIfTI: the given file, or the converted one."""
    source: str
    """How a person finds it: the file's name, or "series 7, 176 slices"."""
    label: str
    """How `chosen` names it."""
    dicom: tuple[Path, ...] = ()
    """The series' files in slice order."""


@dataclass(frozen=True)
class Study:
    """The contrasts of one examination. Only the names of folders and NIfTI files may tell who the patient is."""

    name: str
    scans: dict[str, Scan]
    """{t1n, t1c, t2w, t2f: scan}, in this order; a contrast that was not found is left out."""
    notes: tuple[str, ...] = ()
    """One line for each candidate that was passed over."""


def find_studies(folder: Path) -> list[Path]:
    """The folders of studies: `folder` itself if it holds images, else each folder in it that does at any depth.

    Raises NoCasesError if there is none, UsageError if `folder` cannot be read.
    """
    studies: set[Path] = set()
    for each in walk(folder, Links.FOLLOW).folders:
        top = folder / Path(*each.path.relative_to(folder).parts[:1])
        if top not in studies and (each.images or any(is_dicom(each.path / name) for name in each.others)):
            studies.add(top)
    if not studies:
        raise NoCasesError(f"{folder}: holds no study: expected a folder a study, with DICOM or NIfTI files")
    return [folder] if folder in studies else sorted(studies)


def read_study(folder: Path, work: Path, chosen: Mapping[str, str] = MappingProxyType({})) -> Study:
    """Reads a study; series are converted to NIfTI in `work`.

    `chosen` is {contrast: number of a series, or name of a NIfTI file}, and wins over all rules. DICOM wins over NIfTI.
    Raises CaseError if an image is unreadable, if two could be one contrast, or if one is there as two contrasts;
    UsageError for a contrast that does not exist, and without the packages that DICOM needs.
    """
    name = folder.resolve().name
    tree = walk(folder, Links.FOLLOW)
    images = [path for each in tree.folders for path in each.images.values()]
    others = (each.path / other for each in tree.folders for other in each.others)
    dicom = [path for path in others if is_dicom(path)]
    series, damaged = read_series(dicom) if dicom else ([], 0)
    if not series and not images:
        raise CaseError(f"{folder}: holds no MR image: expected DICOM of MR, or NIfTI")
    given = {contrast: _given(folder, contrast, choice, series, images) for contrast, choice in chosen.items()}
    picked, notes = _picked(name, series, images, given)
    if damaged:
        notes.append(f"{damaged} DICOM files could not be read")
    scans, volumes = {}, {}
    for contrast, source in picked.items():
        scans[contrast], volume = _scan(name, contrast, source, work)
        volumes[contrast] = scans[contrast].source, volume
    refuse_copies(name, volumes)
    return Study(name, scans, tuple(notes))


def _given(folder: Path, contrast: str, choice: str, series: Sequence[Series], images: Sequence[Path]) -> Series | Path:
    """What `--series` names. Raises CaseError unless that is one series or file, UsageError for another contrast."""
    if contrast not in CONTRASTS:
        raise UsageError(f"--series {contrast}={choice}: unknown contrast: choose one of {', '.join(CONTRASTS)}")
    named = f"{folder.resolve().name}: --series {contrast}={choice}"
    files = [path for path in images if choice in (path.name, path.relative_to(folder).as_posix())]
    matching: list[Series | Path] = [*(each for each in series if choice in (each.label, str(each.number))), *files]
    if len(matching) == 1:
        return matching[0]
    if matching:
        labels = [each.label if isinstance(each, Series) else str(each.relative_to(folder)) for each in matching]
        raise CaseError(f"{named}: there are several: give one of {', '.join(labels)}")
    there = [*(each.label for each in series), *(path.name for path in images)]
    raise CaseError(f"{named}: is not there: give one of {', '.join(there)}")


def _picked(
    name: str, series: Sequence[Series], images: Sequence[Path], given: Mapping[str, Series | Path]
) -> tuple[dict[str, Series | Path], list[str]]:
    """({contrast: series or file}, notes). Raises CaseError in doubt."""
    given_series = {contrast: source for contrast, source in given.items() if isinstance(source, Series)}
    of_dicom, notes = series_candidates(name, series, given_series)
    of_nifti, unnamed = named_candidates((path for path in images if path not in given.values()), {*given, *of_dicom})
    picked = {}
    for contrast in CONTRASTS:
        dicom, nifti = of_dicom.get(contrast, []), of_nifti.get(contrast, [])
        if contrast in given:
            picked[contrast], reason, over = given[contrast], "chosen", [*dicom, *nifti]
        elif dicom or nifti:
            first, told = best(name, contrast, dicom or nifti)
            picked[contrast], reason, over = first.source, "DICOM", nifti if dicom else []
            notes += told
        else:
            continue
        title = _title(picked[contrast])
        notes += [f"{contrast}: {each.title} passed over for {title} ({reason})" for each in over]
    for one, other in combinations(picked, 2):
        if picked[one] == picked[other]:
            raise CaseError(f"{name}: {one} and {other} are both {_title(picked[one])}: give each contrast its own")
    return picked, notes + unnamed


def _scan(name: str, contrast: str, source: Series | Path, work: Path) -> tuple[Scan, Volume]:
    """A scan and its voxels; a series is converted. Raises CaseError."""
    if isinstance(source, Path):
        return Scan(source, source.name, source.name), read_volume(source)
    if problem := source.stack.problem:
        raise CaseError(f"{name}: {source.title} holds {problem}, no volume: choose another one for {contrast}")
    if source.stack.gap:
        raise CaseError(
            f"{name}: {source.title} {source.stack.gap}. Export it again, or choose another one with --series"
        )
    image = work / f"{name}-{contrast}.nii"
    volume = convert(source, image, name)
    return Scan(image, f"{source.title}, {source.slices} slices", source.label, source.files), volume


def _title(source: Series | Path) -> str:
    return source.title if isinstance(source, Series) else source.name
