"""Reads the headers of DICOM files, at any depth and under any name, and groups them into series."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brats_infer.prepare.studies.packages import require
from brats_infer.prepare.studies.planes import Plane, Stack, stack

MAGIC_AT, MAGIC = 128, b"DICM"
WITHOUT_PREAMBLE = (b"\x08\x00", b"\x02\x00")  # first bytes of older exports: group 0008 or 0002
MR_IMAGES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1")  # SOP classes: MR, enhanced MR
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TAGS = (
    *("SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"),
    *("Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence"),
    *("SequenceVariant", "ImageType", "EchoTime", "EchoNumbers", "RepetitionTime", "InversionTime", "FlipAngle"),
    *("ContrastBolusAgent", "ContrastBolusAgentSequence", "BodyPartExamined", "AngioFlag", "DiffusionBValue"),
    *("AcquisitionTime", "SeriesTime", "Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagePositionPatient"),
    *("ImageOrientationPatient", *GROUPS),
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
            head = file.read(MAGIC_AT + len(MAGIC))
    except OSError:
        return False
    return head[MAGIC_AT:] == MAGIC or (len(head) > MAGIC_AT and head.startswith(WITHOUT_PREAMBLE))


def read_series(paths: Iterable[Path]) -> tuple[list[Series], int]:
    """(the MR series among DICOM files, by number; the count of files that could not be read).

    A file that lies there twice counts once. Raises UsageError without pydicom.
    """
    require("pydicom", "reading DICOM")
    groups: dict[tuple[str, str], dict[str, Header]] = defaultdict(dict)
    damaged = 0
    for path in paths:
        try:
            header = read_header(path)
        except (*DAMAGED, OSError):
            damaged += 1
            continue
        if header is not None:
            groups[header.series].setdefault(header.uid or str(path), header)
    return _labelled([list(group.values()) for group in groups.values()]), damaged


def read_header(path: Path) -> Header | None:
    """The header of a file; None unless it is an MR image. Raises one of `DAMAGED`, or OSError."""
    from pydicom import config, dcmread

    with config.disable_value_validation():  # a warning would show the value
        dataset = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
        uid = _text(dataset, "SOPInstanceUID")
        if not _is_mr(dataset) or "Rows" not in dataset:
            return None
        number = int(_number(dataset, "SeriesNumber") or 0)
        return Header(
            path=path,
            uid=uid,
            series=(_text(dataset, "SeriesInstanceUID") or str(number), _text(dataset, "EchoNumbers")),
            number=number,
            examination=(_text(dataset, "PatientID"), _text(dataset, "StudyInstanceUID")),
            size=(int(dataset.Rows), int(dataset.Columns)),
            planes=planes_of(dataset),
            facts=_facts(dataset),
        )


def _is_mr(dataset: Any) -> bool:
    """By the modality, else by the kind of object."""
    return (_text(dataset, "Modality") or _text(dataset, "SOPClassUID")) in ("MR", *MR_IMAGES)


def planes_of(dataset: Any) -> tuple[Plane | None, ...]:
    """The places of an image's slices, one for each frame; None for a slice without position."""
    frames = getattr(dataset, GROUPS[1], None)
    if not frames:
        return (_plane((dataset,)),)
    shared = list(getattr(dataset, GROUPS[0], []))
    return tuple(_plane((frame, *shared, dataset)) for frame in frames)


def _plane(places: Sequence[Any]) -> Plane | None:
    """The plane by the first dataset that holds each tag."""
    position, orientation, spacing = (
        next((found for place in places for found in _all(place, keyword)), None)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    try:
        x, y, z = (float(v) for v in position or ())
        a, b, c, d, e, f = (float(v) for v in orientation or ())
        rows, columns = (float(v) for v in spacing or ())
    except (ValueError, TypeError):
        return None
    return Plane((x, y, z), (a, b, c), (d, e, f), (rows, columns))


def _facts(dataset: Any) -> Facts:
    agent = _text(dataset, "ContrastBolusAgent")
    if not agent and getattr(dataset, "ContrastBolusAgentSequence", None):
        agent = "agent"  # as enhanced images tell it
    image_type = f"{_text(dataset, 'ImageType')} {_text(dataset, 'FrameType')}"
    return Facts(
        description=_text(dataset, "SeriesDescription"),
        protocol=_text(dataset, "ProtocolName"),
        sequence_name=_text(dataset, "SequenceName"),
        sequence=frozenset(_text(dataset, "ScanningSequence").split()),
        image_type=image_type.upper(),
        te=_number(dataset, "EchoTime") or _number(dataset, "EffectiveEchoTime"),
        tr=_number(dataset, "RepetitionTime"),
        ti=_number(dataset, "InversionTime") or _number(dataset, "InversionTimes"),
        agent=agent,
        body_part=_text(dataset, "BodyPartExamined"),
        angiography=_text(dataset, "AngioFlag") == "Y",
        diffusion=(_number(dataset, "DiffusionBValue") or 0) > 0,
        started=_number(dataset, "AcquisitionTime") or _number(dataset, "SeriesTime"),
    )


def _all(dataset: Any, keyword: str) -> Iterator[Any]:
    """Values of a tag in a dataset, then in its sequences, of which only the first frame's is looked into."""
    value = dataset.get(keyword)
    if value is not None and value != "":
        yield value
    for element in dataset:
        if element.VR == "SQ" and element.value:
            yield from _all(element.value[0], keyword)


def _text(dataset: Any, keyword: str) -> str:
    """A tag as text, its values separated by spaces; "" if it is missing or damaged."""
    with suppress(*DAMAGED):
        for value in _all(dataset, keyword):
            parts = [value] if isinstance(value, str | int | float) else list(value)
            return " ".join(str(part) for part in parts).strip()
    return ""


def _number(dataset: Any, keyword: str) -> float | None:
    """The first value of a tag as a number; None if it is missing or damaged."""
    with suppress(*DAMAGED):
        return float(_text(dataset, keyword).split()[0])
    return None


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
