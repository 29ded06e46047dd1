"""Chooses one candidate for each contrast, tells which it passes over, and asks where it is in doubt."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from brats_infer.errors import CaseError
from brats_infer.preparation.studies.contrasts import Verdict, contrast_of, corrections, is_reformatted, words_of
from brats_infer.preparation.studies.headers import Series
from brats_infer.tasks import T1C, T1N

BRAIN_MM = 130.0  # a scan that covers more is no better
COVERAGE_STEP = 10.0  # mm; scans within one step are equally good


@dataclass(frozen=True)
class Merit:
    """One criterion of a choice: the higher value wins."""

    value: float
    lacking: str
    """Said of a candidate with a lower value."""


@dataclass(frozen=True)
class Candidate:
    """A series or file that may be a contrast."""

    source: Series | Path
    label: str
    """What `--series` takes: the series' number, or the file's name."""
    title: str
    merits: tuple[Merit, ...] = ()
    """The most important first."""

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(merit.value for merit in self.merits)


def best(study: str, contrast: str, candidates: Sequence[Candidate]) -> tuple[Candidate, list[str]]:
    """(the best candidate, a note for each other one). Raises CaseError if two are equally good."""
    first = max(candidates, key=lambda candidate: candidate.values)
    equal = [candidate for candidate in candidates if candidate.values == first.values]
    if len(equal) > 1:
        titles = " and ".join(candidate.title for candidate in equal)
        raise CaseError(f"{study}: {titles} could both be {contrast}: choose with --series {contrast}={first.label}")
    notes = [
        f"{contrast}: {candidate.title} passed over for {first.title} ({_reason(candidate, first)})"
        for candidate in candidates
        if candidate is not first
    ]
    return first, notes


def _reason(worse: Candidate, better: Candidate) -> str:
    pairs = zip(worse.merits, better.merits, strict=True)
    return next(merit.lacking for merit, other in pairs if merit.value < other.value)


def series_candidates(
    study: str, series: Sequence[Series], given: Mapping[str, Series]
) -> tuple[dict[str, list[Candidate]], list[str]]:
    """({contrast: candidates} of the series without the `given` ones, a note for each series that is none).

    Raises CaseError if they are of several patients or examinations, or if nothing tells T1 from T1 with contrast.
    """
    verdicts = [(each, contrast_of(each)) for each in series if each not in given.values()]
    notes = [f"{each.title} passed over ({verdict.problem})" for each, verdict in verdicts if verdict.problem]
    usable = [(each, verdict) for each, verdict in verdicts if verdict.contrast]
    _check_examination(study, [*given.values(), *(each for each, _ in usable)])
    with_agent = [each for each, verdict in usable if verdict.contrast == T1C.name]
    with_agent += [given[T1C.name]] if T1C.name in given else []
    late = _after_the_agent(usable, with_agent)
    for each, first in late:
        notes.append(
            f"{T1N.name}: {each.title} passed over (scanned after {first.title}, which has the contrast agent; "
            f"--series {T1N.name}={each.label} takes it)"
        )
    passed_over = [each for each, _ in late]
    usable = [(each, verdict) for each, verdict in usable if each not in passed_over]
    _ask_for_the_agent(study, usable, given)
    found: dict[str, list[Candidate]] = defaultdict(list)
    for each, verdict in usable:
        merits = _merits(each, verdict, bool(with_agent))
        found[verdict.contrast or ""].append(Candidate(each, each.label, each.title, merits))
    return dict(found), notes


def _merits(series: Series, verdict: Verdict, agent_is_known: bool) -> tuple[Merit, ...]:
    """`agent_is_known`: one T1 is known to have the contrast agent, so T1 before it have none."""
    is_native = verdict.contrast != T1N.name or verdict.agent is False or agent_is_known
    return (
        Merit(series.stack.gap is None, series.stack.gap or ""),
        coverage_merit(series.stack.coverage_mm),
        Merit(not is_reformatted(series), "a reformat"),
        Merit(is_native, "nothing says that it is without contrast agent"),
        Merit(series.voxels, "fewer voxels"),
        Merit(verdict.contrast == T1C.name or not verdict.agent, "scanned with contrast agent"),
        Merit(corrections(series), "fewer of the scanner's corrections"),
    )


def coverage_merit(mm: float) -> Merit:
    """The extent of the head that a scan shows: a half loses against a whole, of whatever voxels."""
    return Merit(min(mm, BRAIN_MM) // COVERAGE_STEP, f"covers {mm:.0f} mm of the head")


def _check_examination(study: str, series: Sequence[Series]) -> None:
    """Raises CaseError unless all are of one patient and one examination. A missing tag says nothing."""
    for part, what in enumerate(("patients", "examinations")):
        count = len({each.examination[part] for each in series} - {""})
        if count > 1:
            raise CaseError(f"{study}: holds {count} {what}: put each into a folder of its own")


def _after_the_agent(
    usable: Sequence[tuple[Series, Verdict]], with_agent: Sequence[Series]
) -> list[tuple[Series, Series]]:
    """[(T1 that does not tell of an agent, a T1 with agent that was scanned before it)]."""
    silent = [each for each, verdict in usable if verdict.contrast == T1N.name and verdict.agent is None]
    earlier = ((each, next((c for c in with_agent if _is_later(each, c)), None)) for each in silent)
    return [(each, first) for each, first in earlier if first is not None]


def _ask_for_the_agent(study: str, usable: Sequence[tuple[Series, Verdict]], given: Mapping[str, Series]) -> None:
    """Raises CaseError if two T1 with the same words were scanned one after the other and nothing parts them.

    Either none tells of a contrast agent, or all do by the tag, which may have been set for the whole examination.
    """
    t1 = {verdict.contrast for _, verdict in usable} & {T1N.name, T1C.name}
    if len(t1) != 1 or T1C.name in given or T1N.name in given:
        return
    silent = [each for each, verdict in usable if verdict.contrast in t1 and not verdict.in_words]
    silent = [each for each in silent if not (is_reformatted(each) or each.stack.gap)]
    for one, other in combinations(silent, 2):
        at_once = one.facts.started is not None and one.facts.started == other.facts.started
        if at_once or _kind(one) != _kind(other):
            continue
        first, second = (other, one) if _is_later(one, other) else (one, other)
        raise CaseError(
            f"{study}: series {first.label} and {second.label} are both T1, and nothing tells which has the contrast "
            f"agent: choose with --series, for example {T1N.name}={first.label} and {T1C.name}={second.label}"
        )


def _kind(series: Series) -> str:
    """The words of a series without the numbers that count repetitions."""
    return " ".join(re.sub(r"\b\d+\b", " ", words_of(series.facts)).split())


def _is_later(one: Series, other: Series) -> bool:
    """By the time of acquisition, else by the series' number."""
    if one.facts.started is not None and other.facts.started is not None:
        return one.facts.started > other.facts.started
    return one.number > other.number
