"""Takes the file name of an image apart: the case's ID, the contrast, and how surely the name says both."""

import re
from dataclasses import dataclass
from enum import IntEnum

from brats_infer.tasks import MODALITIES, T1C, Modality

IMAGE_ENDINGS = (".nii.gz", ".nii")
LABELS = ("-seg", "_seg")
PROCESSED = (
    *("bias", "brain", "n4", "bfc", "bet", "hdbet", "stripped", "skullstripped", "reg", "registered", "coreg"),
    *("coregistered", "to", "sri", "sri24", "rsri", "mni", "lps", "resampled", "corrected", "preprocessed", "copy"),
)
"""Words behind a contrast that leave it the same image, for example `_t1_brain`."""

_CONTRAST = "|".join(f"(?P<{modality.name}>{modality.pattern})" for modality in MODALITIES)
_PROCESSED = rf"(?:[-_. ]*(?:(?:{'|'.join(PROCESSED)})(?![a-z0-9])|\(\d+\)))+"
_WORD = re.compile(_CONTRAST)
_ENDING = re.compile(rf"(?P<id>.+?)[-_. ](?:{_CONTRAST})", re.DOTALL)
_PROCESSED_ENDING = re.compile(rf"(?P<id>.+?)[-_. ](?:{_CONTRAST})(?:{_PROCESSED})", re.DOTALL)
_WITHOUT_SEPARATOR = re.compile(rf"(?P<id>.*?[a-z0-9])(?:{_CONTRAST})", re.DOTALL)
_ANYWHERE = re.compile(rf"(?<![a-z0-9])(?:{_CONTRAST})(?![a-z0-9])")
_AGENT = re.compile(r"(?:^|_)ce-[a-z0-9]+(?=_|$)")  # BIDS: the contrast agent of a T1w
_NUMBERED = re.compile(r"(?P<id>.+)_(?P<number>\d{4})", re.DOTALL)


class Rank(IntEnum):
    """How a name says its contrast. A surer name wins."""

    OFFICIAL = 0
    """The challenges' own endings: `-t1c`, `_t1ce`."""
    KNOWN = 1
    """A name of the field behind a separator: `_T1GD`, `_ce-gd_T1w`."""
    PROCESSED = 2
    """With words behind it: `_t1_brain`, `-t1c (1)`."""
    RUN_TOGETHER = 3
    """Without a separator: `patient7flair`."""


@dataclass(frozen=True)
class Name:
    """What an image's file name says."""

    case_id: str
    contrast: str
    rank: Rank


def stem_of(file_name: str) -> str | None:
    """An image file's name without its ending; None for any other file, and for a hidden one."""
    ending = next((e for e in IMAGE_ENDINGS if file_name.lower().endswith(e)), None)
    return None if ending is None or file_name.startswith(".") else file_name[: -len(ending)]


def is_label(stem: str) -> bool:
    """Whether a stem is that of an expert's label map."""
    return stem.lower().endswith(LABELS)


def parse_stem(stem: str) -> Name | None:
    """The case ID and contrast of an image's stem, in any letter case; None if it ends in no contrast."""
    for modality in MODALITIES:
        for suffix in modality.suffixes:
            case_id = stem[: -len(suffix)]
            split_name = suffix == "_flair" and re.search(r"[-_. ]t2w?$", case_id.lower())  # `_T2_FLAIR`
            if case_id and stem.lower().endswith(suffix) and not split_name:
                return Name(case_id, modality.name, Rank.OFFICIAL)
    ways = ((_ENDING, Rank.KNOWN), (_PROCESSED_ENDING, Rank.PROCESSED), (_WITHOUT_SEPARATOR, Rank.RUN_TOGETHER))
    for pattern, rank in ways:
        if found := pattern.fullmatch(_lower(stem)):
            return _with_agent(Name(stem[: found.end("id")], _contrast_of(found), rank), _lower(stem))
    return None


def parse_number(stem: str) -> tuple[str, int] | None:
    """(case ID, channel) of a stem as nnU-Net numbers them, `ID_0000`; None for any other."""
    found = _NUMBERED.fullmatch(stem)
    return (found["id"], int(found["number"])) if found else None


def contrast_named(word: str) -> str | None:
    """The contrast that a word alone means, for example a channel's name "T1 Gd" or the stem `flair`."""
    found = _WORD.fullmatch(_lower(word.strip()))
    return _contrast_of(found) if found else None


def contrast_in(stem: str) -> Modality | None:
    """The only contrast that a stem speaks of, anywhere in it; None if it speaks of several or none."""
    found = {_contrast_of(match) for match in _ANYWHERE.finditer(_lower(stem))}
    return next((modality for modality in MODALITIES if {modality.name} == found), None)


def _with_agent(name: Name, stem: str) -> Name:
    """A BIDS name with the entity of a contrast agent, in any place before T1w."""
    found = _AGENT.search(_lower(name.case_id)) if stem.endswith("_t1w") else None
    if found is None:
        return name
    return Name(name.case_id[: found.start()] + name.case_id[found.end() :], T1C.name, name.rank)


def _contrast_of(found: re.Match[str]) -> str:
    return next(modality.name for modality in MODALITIES if found[modality.name])


def _lower(text: str) -> str:
    """The text with its ASCII letters in lower case: the length stays, so that positions do."""
    return "".join(c.lower() if c.isascii() else c for c in text)
