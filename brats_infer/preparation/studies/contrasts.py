"""The contrast of a DICOM series, by the times of its sequence and the words of its header."""

import re
from dataclasses import dataclass

from brats_infer.preparation.studies.headers import Facts, Series
from brats_infer.preparation.studies.words import (
    Weighting,
    agent_in,
    no_contrast_in,
    plain,
    t1_named,
    weighting_in,
)
from brats_infer.tasks import T2F, T2W

MIN_SLICES = 10
FLAIR_TI = (1500.0, 3000.0)  # ms; the fluid's null lies at 1650 (3D, 3 T) to 2850
T1_TI = (300.0, 1400.0)  # ms; MPRAGE, T1 FLAIR
LONG_TE = 60.0  # ms
SHORT_TE, SHORT_TE_GRADIENT, LONG_TE_GRADIENT = 30.0, 10.0, 12.0  # ms
LONG_TR, SHORT_TR = 1800.0, 1500.0  # ms
FLAIR_TR = 7500.0  # ms; where the inversion time is missing, a longer one may mean FLAIR
NO_INVERSION = 50.0  # ms; 0 stands in headers without inversion

NO_CONTRAST_TYPES = re.compile(
    r"\b(?:LOCALIZER|ADC|FA|TRACEW?|TENSOR|DIFFUSION|M(?:IN|N)?IP|MIN IP|SUB(?:TRACTION)?|PROJECTION|P|PHASE|VELOCITY|"
    r"CBF|CBV|RCBF|RCBV|MTT|TTP|TMAX|PERFUSION|ASL|SWI|T[12] MAP|T2_STAR|ANGIO|TOF|MOSAIC|FMRI|SCREEN|REPORT|"
    r"COMPOSED|FIELD_MAP)(?:\b|_)"
)
"""Values of ImageType of maps, projections and localizers."""
REFORMATTED = re.compile(r"\b(?:MPR|REFORMATTED|RESAMPLED|AVERAGE|CSA)\b")
CORRECTIONS = re.compile(r"\b(?:DIS2D|DIS3D|NORM)\b")
OTHER_PARTS = re.compile(
    r"SPINE|KNEE|FOOT|ABDOMEN|PELVIS|BREAST|PROSTATE|HEART|SHOULDER|HIP|ANKLE|HAND|WRIST|ELBOW|LIVER|CHEST|THORAX|LEG"
)
NO_AGENT = re.compile(r"(?:no|none|nil|n/?a|false|w/?o|without|ohne|sans|sin|nativ|native|0|-+|unknown)(?!\w).*|", re.I)


@dataclass(frozen=True)
class Verdict:
    """What a series is."""

    contrast: str | None = None
    problem: str | None = None
    """Why it is no contrast, without any text of the header."""
    agent: bool | None = None
    """Whether a contrast agent was given; None if the header does not tell."""
    in_words: bool = False
    """Whether words tell so. The tag alone may have been set for the whole examination."""


def words_of(facts: Facts) -> str:
    """The series description; without one, the protocol's name, which may be that of the whole examination."""
    return plain(facts.description) or plain(facts.protocol)


def contrast_of(series: Series) -> Verdict:
    """The contrast of a series, or why it is none."""
    facts = series.facts
    words = words_of(facts)
    if problem := _problem(series, words):
        return Verdict(problem=problem)
    names = (words, plain(facts.sequence_name), plain(facts.protocol))
    said = next((weighting for name in names if (weighting := weighting_in(name))), None)
    timed = _weighting_by_times(facts)
    if said is Weighting.T2 and timed is Weighting.FLAIR:
        said = timed  # FLAIR is a T2 image
    if said is Weighting.FLAIR and timed is Weighting.T2 and not facts.ti:
        timed = said  # the inversion time is missing
    if said and timed and said is not timed:
        return Verdict(problem=f"its name says {said}, its echo and repetition times {timed}")
    weighting = said or timed
    in_words = agent_in(words)
    agent = in_words if in_words is not None else _agent_by_tag(facts)
    known = in_words is not None
    match weighting:
        case None:
            return Verdict(problem="its header tells no contrast")
        case Weighting.T1:
            return Verdict(t1_named(agent), agent=agent, in_words=known)
        case Weighting.T2:
            return Verdict(T2W.name, agent=agent, in_words=known)
        case Weighting.FLAIR:
            return Verdict(T2F.name, agent=agent, in_words=known)


def is_reformatted(series: Series) -> bool:
    """Whether its slices were resampled from another series."""
    return bool(REFORMATTED.search(series.facts.image_type))


def corrections(series: Series) -> int:
    """How many of the scanner's corrections it has: distortion, receiving coils."""
    return len(set(CORRECTIONS.findall(series.facts.image_type)))


def _problem(series: Series, words: str) -> str | None:
    """Why a series cannot be one of the four contrasts, whatever its times."""
    facts = series.facts
    if kind := no_contrast_in(words):
        return kind
    if NO_CONTRAST_TYPES.search(facts.image_type):
        return "a localizer, a map or a projection"
    if facts.angiography or facts.diffusion or "EP" in facts.sequence:
        return "angiography, diffusion or echo-planar imaging"
    if OTHER_PARTS.search(facts.body_part.upper()):
        return "another part of the body"
    if series.stack.problem:
        return series.stack.problem
    return f"{series.slices} slices, fewer than {MIN_SLICES}" if series.slices < MIN_SLICES else _gradient_t2(facts)


def _gradient_t2(facts: Facts) -> str | None:
    late = facts.te is not None and facts.te > LONG_TE_GRADIENT
    return "susceptibility or T2*" if _is_gradient(facts) and late and not _inversion(facts) else None


def _is_gradient(facts: Facts) -> bool:
    return "GR" in facts.sequence and "SE" not in facts.sequence


def _inversion(facts: Facts) -> float | None:
    """The inversion time in ms; None without inversion, and if it is missing."""
    return facts.ti if facts.ti is not None and facts.ti > NO_INVERSION else None


def _weighting_by_times(facts: Facts) -> Weighting | None:
    """The weighting by echo, repetition and inversion time; None if they are missing or those of no contrast."""
    te, tr, ti = facts.te, facts.tr, _inversion(facts)
    if te is None:
        return None
    if ti is not None and FLAIR_TI[0] <= ti <= FLAIR_TI[1] and te >= LONG_TE:
        return Weighting.FLAIR
    inverted_t1 = ti is not None and T1_TI[0] <= ti <= T1_TI[1]
    if _is_gradient(facts):
        return Weighting.T1 if te <= SHORT_TE_GRADIENT else None
    if te <= SHORT_TE and (inverted_t1 or (tr is not None and tr <= SHORT_TR and ti is None)):
        return Weighting.T1
    if te < LONG_TE or tr is None or tr < LONG_TR or ti is not None:
        return None
    may_be_flair = "IR" in facts.sequence or (not facts.sequence and tr >= FLAIR_TR and facts.ti is None)
    return None if may_be_flair else Weighting.T2


def _agent_by_tag(facts: Facts) -> bool | None:
    return True if not NO_AGENT.fullmatch(facts.agent) else None
