"""What the words of a series or a file name say: weighting, contrast agent, and kinds of images that are no contrast.

English, German, French and Spanish. Technicians type these words, so nothing of them leaves this module but the names
of what was recognised.
"""

import re
import unicodedata
from enum import StrEnum

from brats_infer.tasks import T1C, T1N


class Weighting(StrEnum):
    """What tissue properties an image shows."""

    T1 = "T1"
    T2 = "T2"
    FLAIR = "FLAIR"


_FLAIR = re.compile(r"flair|tirm|fluid attenuat|dark[ -]*fl|\bda[ -]?fl|(?:spc|space)[ -]?ir")
_T1 = re.compile(r"(?<![a-ce-z0-9])t1(?![0-9*])|mp[ -]?rage|bravo|f?spgr|\bvibe\b|tfl ?3d|3d ?tfe")
_T2 = re.compile(r"(?<![a-ce-z0-9])t2(?![0-9*])")

_AGENT = (
    r"(?:gd(?:dtpa)?|gad[a-z]*|dotarem|clariscan|prohance|magnevist|multihance|omniscan|elucirem|vueway|dtpa|km|"
    r"kontrast[a-z]*|contrast[a-z]*|ce|inj[a-z]*|civ|enhanced)(?![a-z0-9])"
)
_JOINED = r"(?<![a-z])t1w?(?: ?c|[ -]?(?:ce|gd|gad|k|km|post))(?![a-z])"
_PLUS = r"\+ ?(?:c|gd|km|k)(?![a-z])|(?<![a-z])c ?\+"
_AFTER = r"\bpost(?!erior)(?![ -]?(?:op|surg|proc|rt\b|rx|rad|chem|treat))[a-z]*|\bapres\b|\bdespues\b"
_WITH_AGENT = re.compile(rf"(?<![a-z0-9]){_AGENT}|{_JOINED}|{_PLUS}|{_AFTER}")
_WITHOUT = rf"(?:w/o|wo|without|no|non|not|ohne|sans|sin)[ -]*(?:iv |i v |de )?(?:{_AGENT}|c(?![a-z])|$)"
_BEFORE = rf"(?:pre(?![ -]?(?:op|surg|scan))|vor|avant|antes|nativ[a-z]*|plain|unenhanced)(?![a-z])(?:[ -]*{_AGENT})?"
_BEFORE_JOINED = rf"pre{_AGENT}"
_NATIVE = re.compile(rf"(?<![a-z])(?:{_WITHOUT}|{_BEFORE}|{_BEFORE_JOINED})|(?<![a-z0-9])-c(?![a-z])")
_BOTH = re.compile(
    r"\b(?:with|w|mit|avec|con)\b[ /+&-]*(?:and|und|et|y)?[ /+&-]*(?:w/o|wo|without|ohne|sans|sin)\b|\+ ?/ ?-"
)

_NO_CONTRAST = {
    "a localizer": r"locali|scout|survey|pilot|topogr|lokal|reperage|\bloc\b|3[ -]?plane|plan ?scan|smartbrain",
    "diffusion": r"dwi|diff(?!er)|\bd[tk]i\b|adc\b|\bfa(?: map)?$|trace|tensor|ep2d|\bb ?(?:[5-9]\d\d|[1-3]\d{3})\b",
    "susceptibility or T2*": r"\bswi|swan|venobold|suscept|t2 ?\*|t2 ?star|ha?emo|qsm|t2 ?(?:gre|ffe)|gre t2|merge\b",
    "perfusion": r"perf|\bdsc\b|\bdce\b|asl\b|r?cb[fv]\b|\bmtt\b|\bttp\b|tmax|ktrans",
    "angiography": r"\btof\b|\bmra\b|\bmrv\b|angio|venog|time of flight|\bpca?\b|inhance|\btwist\b|tricks",
    "a phase or field map": r"\bphase?\b(?! (?:enc|array))|\bpha\b|field ?map|b[01] ?map|gre field",
    "a derived image": r"\bsub\b|subtra|\bm(?:in|n)?ip\b|projection|t[12] ?map|t1 ?rho|colou?r|fus(?:ed|ion)",
    "an inversion image": r"\binv[12]\b",
    "MP2RAGE": r"mp2rage",
    "functional imaging": r"\bbold\b|fmri|resting",
    "spectroscopy": r"\bmrs\b|spectro|\bcsi\b|\bsvs\b|\bpress\b",
    "a steady-state sequence": r"\bciss\b|fiesta|trufi|b[ -]?ffe",
    "a part of Dixon imaging": r"\bopp\b|fat only|dixon.* f\b",
    "STIR": r"\bstir\b",
    "proton density": r"\bpdw?\b|proton|(?<![a-z])dp\b",
    "magnetization transfer": r"\bmtc?\b|\bmtr\b",
    "a calibration": r"calib|\bref\b|shim",
    "a label map or mask": r"mask|segment|\bseg\b|labels?\b|\broi\b",
    "a screen capture": r"screen|report|summary",
    "another part of the body": (
        r"spine|spinal|wirbel|\b[hbl]ws\b|cervic|lumb|thorac|rachis|columna|sacr|myelo|knee|abdom|pelvi|prostat|"
        r"breast|mamm|shoulder|\bhip\b"
    ),
}
"""{kind: pattern} of images that are none of the four contrasts."""


def plain(text: str) -> str:
    """The text in lower case without accents, with one space for `_` and white space."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return " ".join(letters.replace("_", " ").replace(".", " ").split())


def weighting_in(words: str) -> Weighting | None:
    """The weighting that words speak of; None if of none, or of T1 and T2. FLAIR beats T2, and T1 beats FLAIR."""
    t1, t2, flair = bool(_T1.search(words)), bool(_T2.search(words)), bool(_FLAIR.search(words))
    if t1 and t2:
        return None
    if t1:
        return Weighting.T1  # also "T1 FLAIR", an inversion recovery of GE
    return Weighting.FLAIR if flair else Weighting.T2 if t2 else None


def agent_in(words: str) -> bool | None:
    """Whether words say that a contrast agent was given; None if they tell nothing, or both."""
    if _BOTH.search(words):
        return None
    rest, native = _NATIVE.subn(" ", words)
    agent = bool(_WITH_AGENT.search(rest))
    return None if agent == bool(native) else agent


def no_contrast_in(words: str) -> str | None:
    """The kind of image that is none of the four contrasts, for example "diffusion"; None for any other."""
    return next((kind for kind, pattern in _NO_CONTRAST.items() if re.search(pattern, words)), None)


def t1_named(agent: bool | None) -> str:
    """The contrast of a T1 image."""
    return T1C.name if agent else T1N.name
