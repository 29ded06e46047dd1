"""Finds the contrasts among NIfTI files, by their names."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from brats_infer.errors import CaseError
from brats_infer.files.nifti import read_header
from brats_infer.files.search.names import Rank, contrast_in, contrast_named, is_label, parse_stem, stem_of
from brats_infer.preparation.studies.choice import Candidate, Merit, coverage_merit
from brats_infer.preparation.studies.words import Weighting, agent_in, no_contrast_in, plain, t1_named, weighting_in
from brats_infer.tasks import T1N, T2F, T2W

BY_WORDS = Rank.RUN_TOGETHER + 1  # the contrast stands anywhere in the name


@dataclass(frozen=True)
class Named:
    """What a file's name says."""

    contrast: str
    rank: int
    """The surer, the lower."""


def named_candidates(paths: Iterable[Path], decided: Collection[str]) -> tuple[dict[str, list[Candidate]], list[str]]:
    """({contrast: candidates} of NIfTI files, a note for each name that tells no contrast).

    Those of `decided` contrasts are not opened. Raises CaseError for another candidate that is no 3-D image.
    """
    found: dict[str, list[Candidate]] = defaultdict(list)
    notes = []
    for path in paths:
        named = contrast_by_name(path.name)
        if named is None:
            notes.append(f"{path.name} passed over (its name tells no contrast)")
            continue
        merits = () if named.contrast in decided else _merits(path, named)
        found[named.contrast].append(Candidate(path, path.name, path.name, merits))
    return dict(found), notes


def _merits(path: Path, named: Named) -> tuple[Merit, ...]:
    header = read_header(path)
    shape = header.get_data_shape()
    if any(side != 1 for side in shape[3:]):
        raise CaseError(f"{path}: holds {shape[3]} volumes: extract the one that is the contrast")
    coverage = min(n * float(mm) for n, mm in zip(shape[:3], header.get_zooms(), strict=False))
    return (
        coverage_merit(coverage),
        Merit(math.prod(shape), "fewer voxels"),
        Merit(-named.rank, "a less sure name"),
    )


def contrast_by_name(name: str) -> Named | None:
    """What the name of a NIfTI file says; None if it tells no contrast or that of a label map, a map or a mask."""
    stem = stem_of(name)
    if stem is None or is_label(stem):
        return None
    parsed = parse_stem(stem)
    if parsed is not None and parsed.rank <= Rank.KNOWN:  # words before it are the patient's ID
        return Named(parsed.contrast, parsed.rank)
    if alone := contrast_named(stem):
        return Named(alone, Rank.OFFICIAL)
    words = plain(stem.replace("-", " "))
    if no_contrast_in(words):
        return None
    if parsed is not None:
        return Named(_refined(parsed.contrast, words), parsed.rank)
    if modality := contrast_in(stem):
        return Named(_refined(modality.name, words), BY_WORDS)
    by_words = _by_words(words)
    return None if by_words is None else Named(by_words, BY_WORDS)


def _refined(contrast: str, words: str) -> str:
    """T1 with contrast or FLAIR where further words say so: `T1_MPRAGE_Gd`, `t2_tirm`."""
    if contrast == T1N.name:
        return t1_named(agent_in(words))
    return T2F.name if contrast == T2W.name and weighting_in(words) is Weighting.FLAIR else contrast


def _by_words(words: str) -> str | None:
    match weighting_in(words):
        case Weighting.T1:
            return t1_named(agent_in(words))
        case Weighting.T2:
            return T2W.name
        case Weighting.FLAIR:
            return T2F.name
    return None
