"""The types of the facts in `tasks.py`: a challenge, its contrasts, its regions, the settings of its scores."""

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


@dataclass(frozen=True)
class Modality:
    """One of the four contrasts, and its file names."""

    name: str
    title: str
    suffixes: tuple[str, ...]
    """Endings of the challenges' file stems: the 2023 name first, then that of 2018 to 2021."""
    pattern: str
    """Regular expression of all its names in the field, in lower case, without the separator before them."""


@dataclass(frozen=True)
class Region:
    """A set of labels that a network finds as one: one of its output channels."""

    name: str
    labels: tuple[int, ...]
    """All labels in it, ascending."""
    label: int
    """The label of its voxels that no later region of the task takes."""
    threshold: float
    """Voxels of this probability or more belong to it."""
    dust_mm3: int
    """Components of this volume or less are dust."""


@dataclass(frozen=True)
class LesionMetrics:
    """Settings of the official lesion-wise scores of 2023."""

    dilation_iterations: int
    """18-neighbour dilations of the reference that decide which components are one lesion."""
    ignored_mm3: float = 50.0
    """Reference lesions of this volume or less are left out."""
    penalty_mm: float = 374.0
    """HD95 of a missed or invented lesion."""


@dataclass(frozen=True)
class Region2024:
    """A region as the official scores of 2024 see it."""

    name: str
    labels: tuple[int, ...]
    steps: int
    """18-neighbour dilations that merge pieces into one lesion, and reach from a lesion to predicted ones."""
    limit: float
    """Reference lesions of this many mm3 or less are left out; predicted ones of this many voxels or fewer go."""
    joined_by: tuple[str, ...] = ()
    """Regions, one after the other, whose lesions join those of this region that touch them."""
    scored: bool = True
    """False: the region only joins lesions of others."""


@dataclass(frozen=True)
class Metrics2024:
    """Settings of the official scores of 2024."""

    regions: tuple[Region2024, ...]
    penalty_mm: float | None
    """HD95 of a missed or invented lesion; None: the diagonal of the volume, in voxels."""
    counts_false: bool = True
    """Whether false positives lower the lesion-wise scores."""
    drops_by_mm3: bool = False
    """Whether the limit of predicted lesions is in mm3 too."""


class Rule(StrEnum):
    """How the regions' probabilities become labels."""

    INWARDS = "inwards"
    """From the outermost region inwards, until a region's threshold is not reached."""
    INNERMOST = "innermost"
    """The innermost region above its threshold, whatever the regions around it have (nnU-Net with regions)."""
    ARGMAX = "argmax"
    """The most probable of background and labels (nnU-Net without regions)."""


@dataclass(frozen=True)
class Task:
    """One challenge."""

    name: str
    title: str
    id_pattern: str
    """Regular expression of the challenge's case IDs, for the task `auto`."""
    regions: tuple[Region, ...]
    """In the order in which they are written, so a later one wins; also that of the network's output channels.

    A region comes after those that hold it.
    """
    connectivity: int
    """6, 18 or 26 neighbours connect a component, for dust and for unsure components."""
    metrics: LesionMetrics
    """A challenge that began after 2023 has those of its nearest relative."""
    label_names: tuple[str, ...]
    """Of the labels 1, 2, 3, …"""
    modalities: tuple[Modality, ...]
    """Its contrasts, in the order of the network's input channels."""
    metrics_2024: Metrics2024 | None = None
    """None if the challenge had no scores of 2024."""
    own_metrics: str = field(default="2023", repr=False)
    """The official scores that its reports show: 2023, or 2024. Not in the repr, which names cached training cases."""
    settings_2026: str | None = None
    """The name of its settings in the package brats-evaluation; None if the package has none."""
    rule: Rule = Rule.INWARDS
    post_processed: bool = True
    """Whether label maps are post-processed unless the settings say otherwise."""

    @property
    def labels(self) -> tuple[int, ...]:
        """All foreground labels, ascending."""
        return tuple(sorted({label for region in self.regions for label in region.labels}))

    def name_of(self, label: int) -> str:
        """The name of a foreground label."""
        return self.label_names[label - 1]

    @cached_property
    def outer(self) -> tuple[int | None, ...]:
        """For each region, the index of the smallest region that holds it; None if no region does."""
        return tuple(
            max(
                (i for i, other in enumerate(self.regions) if set(region.labels) < set(other.labels)),
                key=lambda i: -len(self.regions[i].labels),
                default=None,
            )
            for region in self.regions
        )

    @property
    def outermost(self) -> tuple[int, ...]:
        """The indices of the regions that no region holds. Together they hold every label."""
        return tuple(index for index, outer in enumerate(self.outer) if outer is None)

    @property
    def is_nested(self) -> bool:
        """Whether each region lies inside the one before."""
        return self.outer == (None, *range(len(self.regions) - 1))
