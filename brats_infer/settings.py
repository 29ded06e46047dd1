"""The settings of a run; light to import, so that the command line starts at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from brats_infer.errors import UsageError


class Mode(StrEnum):
    """How the networks see a brain."""

    COARSE_TO_FINE = "coarse-to-fine"
    """Members on coarser grids see the whole brain, members on finer grids a box around the possible tumor."""
    SLIDING_WINDOW = "sliding-window"
    """Every member sees windows of its training patch, half overlapping, with Gaussian weights."""


class OnError(StrEnum):
    """The output of a case that cannot be segmented."""

    FAIL = "fail"
    """No file is written for it."""
    BLANK = "blank"
    """A map of background is written: some organizers drop every case if one file is missing."""


class Missing(StrEnum):
    """What becomes of a case that lacks a contrast."""

    FAIL = "fail"
    USE = "use"
    """It is segmented from the others, also where an image is broken. Two must be usable, T1c or FLAIR among them."""


class Atlas(StrEnum):
    """The space of prepared cases."""

    SRI24 = "sri24"
    """The challenges' grid: 240 x 240 x 155 voxels of 1 mm."""
    MNI = "mni"
    """The grid of BraTS 2024 after treatment: 182 x 218 x 182 voxels of 1 mm."""
    NONE = "none"
    """The place of the T1c, else of the T1 or FLAIR, at 1 mm."""


@dataclass(frozen=True)
class PrepareOptions:
    """How raw scans become cases."""

    atlas: Atlas = Atlas.SRI24
    missing: Missing = Missing.FAIL
    series: Mapping[str, str] = field(default_factory=dict)
    """{contrast: number of a DICOM series, or name of a NIfTI file}, in all studies."""
    brain: str | None = None
    """Name of a file in each study: the brain's mask, in the space of the reference."""
    resume: bool = False
    """Whether cases with a record are left alone."""

    def __post_init__(self) -> None:
        """Raises UsageError for an unknown value. Names may be given as text: `atlas="mni"`."""
        for name, kind in (("atlas", Atlas), ("missing", Missing)):
            object.__setattr__(self, name, _chosen(name, getattr(self, name), kind))


class DustFill(StrEnum):
    """The label that replaces dust (paper 2.6)."""

    BACKGROUND = "background"
    MODAL_NEIGHBOUR = "modal-neighbour"
    """The most frequent label around the component; the smallest label in a tie."""


class PostProcess(StrEnum):
    """Whether label maps are post-processed."""

    AUTO = "auto"
    """Yes, unless all members are imported: their maps are then those of their source."""
    ON = "on"
    OFF = "off"


def _chosen(name: str, value: str, kind: type[StrEnum]) -> StrEnum:
    """A member by its name. Raises UsageError."""
    if value not in set(kind):
        raise UsageError(f"{name}={value!r}: choose one of {', '.join(kind)}")
    return kind(value)


CHOICES = {
    "mode": Mode,
    "on_error": OnError,
    "missing": Missing,
    "dust_fill": DustFill,
    "post_process": PostProcess,
}


@dataclass(frozen=True)
class Settings:
    """What a run does with every case."""

    mode: Mode = Mode.COARSE_TO_FINE
    flips: bool = False
    """Whether to take the mean over all eight mirror images."""
    on_error: OnError = OnError.FAIL
    missing: Missing = Missing.FAIL
    resume: bool = False
    """Whether to skip cases that have a valid, non-empty label map in the output folder."""
    post_process: PostProcess = PostProcess.AUTO
    """Whether dust, holes, unsure components and voxels outside the brain are removed."""
    dust: int = 500
    """Components up to this many mm3 are removed. If no tumor is left, the task's own size counts (50, as the paper's).

    Measured on the shipped weights (docs/experiments.md): their small components are mostly false.
    """
    component_probability: float = 0.7
    """Components with a lower mean probability of their region join the next outer region, unless no tumor is left.
    0: none, as in the paper. Measured as above.
    """
    dust_fill: DustFill = DustFill.BACKGROUND
    probabilities: Path | None = None
    """A folder for the region probabilities, (X, Y, Z, R) in steps of 1/255, before thresholds."""

    def __post_init__(self) -> None:
        """Raises UsageError for a value out of range. Names may be given as text: `mode="sliding-window"`."""
        for name, kind in CHOICES.items():
            _chosen(name, getattr(self, name), kind)
        if self.probabilities is not None:
            object.__setattr__(self, "probabilities", Path(self.probabilities))
        if self.dust < 0 or not 0 <= self.component_probability <= 1:
            raise UsageError("dust counts mm3 from 0, component_probability goes from 0 to 1: choose others")
