"""Reads the headers of DICOM files, at any depth and under any name, and groups them into series."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brats_infer.preparation.studies.packages import quiet, require
from brats_infer.preparation.studies.planes import Plane, Stack, stack

MAGIC_AT, MAGIC = 128, b"DICM"
MR_IMAGES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1")  # SOP classes: MR, enhanced MR
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"),
    *("Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence"),
    *("ImageType", "EchoTime", "EchoNumbers", "RepetitionTime", "InversionTime", "ContrastBolusAgent"),
    *("ContrastBolusAgentSequence", "BodyPartExamined", "AngioFlag", "DiffusionBValue", "AcquisitionTime"),
    *("SeriesTime", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", *GROUPS),
)
DAMAGED = (ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, OverflowError, EOFError)
"""Errors of pydicom over a damaged element. Their text may hold the patient's data: it is never shown."""


@dataclass(frozen=True)
class Facts:
    """What a header says about the image, with None and "" for a missing tag. Times are in ms."""

    description: str
    protocol: str
    sequence_name: str
    sequence: frozenset[str]
    """ScanningSequence: SE, IR, GR, EP, RM."""
    image_type: str
    te: float | None
    tr: float | None
    ti: float | None
    agent: str
    body_part: str
    angiography: bool
    diffusion: bool
    started: float | None
    """When it was acquired, as a number that grows within a day."""


@dataclass(frozen=True)
class Header:
    """One DICOM file: one slice, or all slices of an enhanced (multi-frame) image."""

    path: Path
    uid: str
    series: tuple[str, str]
    """SeriesInstanceUID (else SeriesNumber), echo."""
    number: int
    """SeriesNumber; 0 if there is none."""
    examination: tuple[str, str]
    """PatientID, StudyInstanceUID."""
    size: tuple[int, int]
    """Rows, columns."""
    planes: tuple[Plane | None, ...]
    facts: Facts


@dataclass(frozen=True)
class Series:
    """The images of one series and one echo."""

    label: str
    """Its number; several series of one number are `7a`, `7b`."""
    number: int
    files: tuple[Path, ...]
    """In slice order."""
    stack: Stack
    size: tuple[int, int]
    examination: tuple[str, str]
    facts: Facts

    @property
    def title(self) -> str:
        return f"series {self.label}"

    @property
    def slices(self) -> int:
        return len(self.stack.order)

    @property
    def voxels(self) -> int:
        return self.size[0] * self.size[1] * self.slices


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM does."""
    try:
        with path.open("rb") as file:
            return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC
    except OSError:
        return False


def read_series(paths: Iterable[Path]) -> tuple[list[Series], int]:
    """(the MR series among DICOM files, by number; the count of files that could not be read).

    A file that lies there twice counts once. Raises UsageError without pydicom.
    """
    require("pydicom", "reading DICOM")
    groups: dict[tuple[str, str], dict[tuple[object, ...], Header]] = defaultdict(dict)
    damaged = 0
    for path in paths:
        try:
            header = read_header(path)
        except (*DAMAGED, OSError):
            damaged += 1
            continue
        if header is not None:
            groups[header.series].setdefault((header.uid or path, header.planes), header)
    return _labelled([list(group.values()) for group in groups.values()]), damaged


def read_header(path: Path) -> Header | None:
    """The header of a file; None unless it is an MR image. Raises one of `DAMAGED`, or OSError."""
    from pydicom import dcmread

    with quiet():
        dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
        groups = [part for name in GROUPS for group in (dataset.get(name) or [])[:1] for part in _parts(group)]
        parts = [dataset, *groups]
        if not _is_mr(parts) or "Rows" not in dataset:
            return None
        number = int(_number(parts, "SeriesNumber") or 0)
        return Header(
            path=path,
            uid=_text(parts, "SOPInstanceUID"),
            series=(_text(parts, "SeriesInstanceUID") or str(number), _text(parts, "EchoNumbers")),
            number=number,
            examination=(_text(parts, "PatientID"), _text(parts, "StudyInstanceUID")),
            size=(int(dataset.Rows), int(dataset.Columns)),
            planes=planes_of(dataset),
            facts=_facts(parts),
        )


def planes_of(dataset: Any) -> tuple[Plane | None, ...]:
    """The places of an image's slices, one for each frame; None for a slice of unknown place."""
    shared, frames = (dataset.get(name) or [] for name in GROUPS)
    common = [*(part for group in shared for part in _parts(group)), dataset]
    return tuple(_plane([*_parts(frame), *common]) for frame in frames) or (_plane(common),)


def _parts(group: Any) -> list[Any]:
    """The datasets in a functional group of an enhanced image."""
    return [part for element in group if element.VR == "SQ" for part in element.value]


def _plane(parts: Sequence[Any]) -> Plane | None:
    try:
        x, y, z = _numbers(parts, "ImagePositionPatient")
        a, b, c, d, e, f = _numbers(parts, "ImageOrientationPatient")
        rows, columns = _numbers(parts, "PixelSpacing")
    except ValueError:
        return None
    return Plane((x, y, z), (a, b, c), (d, e, f), (rows, columns))


def _is_mr(parts: Sequence[Any]) -> bool:
    """By the modality, else by the kind of object."""
    return (_text(parts, "Modality") or _text(parts, "SOPClassUID")) in ("MR", *MR_IMAGES)


def _facts(parts: Sequence[Any]) -> Facts:
    agent = _text(parts, "ContrastBolusAgent")
    if not agent and parts[0].get("ContrastBolusAgentSequence"):
        agent = "agent"  # as enhanced images tell it
    return Facts(
        description=_text(parts, "SeriesDescription"),
        protocol=_text(parts, "ProtocolName"),
        sequence_name=_text(parts, "SequenceName"),
        sequence=frozenset(_text(parts, "ScanningSequence").split()),
        image_type=f"{_text(parts, 'ImageType')} {_text(parts, 'FrameType')}".upper(),
        te=_number(parts, "EchoTime") or _number(parts, "EffectiveEchoTime"),
        tr=_number(parts, "RepetitionTime"),
        ti=_number(parts, "InversionTime") or _number(parts, "InversionTimes"),
        agent=agent,
        body_part=_text(parts, "BodyPartExamined"),
        angiography=_text(parts, "AngioFlag") == "Y",
        diffusion=(_number(parts, "DiffusionBValue") or 0) > 0,
        started=_number(parts, "AcquisitionTime") or _number(parts, "SeriesTime"),
    )


def _text(parts: Sequence[Any], keyword: str) -> str:
    """A tag as text by the first part that has it, its values separated by spaces; "" if missing or damaged."""
    with suppress(*DAMAGED):
        for part in parts:
            value = part.get(keyword)
            if value is not None and value != "":
                values = [value] if isinstance(value, str | int | float) else value
                return " ".join(str(each) for each in values).strip()
    return ""


def _numbers(parts: Sequence[Any], keyword: str) -> list[float]:
    """A tag as finite numbers; none if it is missing or damaged."""
    with suppress(*DAMAGED):
        numbers = [float(word) for word in _text(parts, keyword).split()]
        return numbers if all(map(math.isfinite, numbers)) else []
    return []


def _number(parts: Sequence[Any], keyword: str) -> float | None:
    """The first value of a tag as a number."""
    return next(iter(_numbers(parts, keyword)), None)


def _labelled(groups: list[list[Header]]) -> list[Series]:
    """The series in the order of their numbers. Those of one number get letters, the earlier first."""
    count = Counter(group[0].number for group in groups)
    taken: Counter[int] = Counter()
    series = []
    for group in sorted(groups, key=lambda g: (g[0].number, _started(g) or 0.0, g[0].series)):
        number = group[0].number
        series.append(_series(group, f"{number}{_letters(taken[number])}" if count[number] > 1 else str(number)))
        taken[number] += 1
    return series


def _letters(position: int) -> str:
    """a to z, then aa, ab and so on."""
    before, letter = divmod(position, 26)
    return (_letters(before - 1) if before else "") + chr(ord("a") + letter)


def _started(group: list[Header]) -> float | None:
    return min((header.facts.started for header in group if header.facts.started is not None), default=None)


def _series(group: list[Header], label: str) -> Series:
    first = min(group, key=lambda header: os.fspath(header.path))
    planes = [(header, plane) for header in group for plane in header.planes]
    stacked = stack([plane for _, plane in planes])
    if any(header.size != first.size for header in group):
        stacked = replace(stacked, problem="slices of several sizes")
    return Series(
        label=label,
        number=first.number,
        files=tuple(dict.fromkeys(planes[i][0].path for i in stacked.order)),
        stack=stacked,
        size=first.size,
        examination=first.examination,
        facts=replace(first.facts, started=_started(group)),
    )
