"""The folders that the cases of a run come from, their summary, and the cases of one fold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from brats_infer.errors import UsageError
from brats_infer.image.normalise import Normalisation
from brats_infer.system.console import Screen, say
from brats_infer.tasks import Task, patient_of, task_named
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split, load_split
from brats_infer.train.data.fresh import phantom_maker
from brats_infer.train.data.splits import Fold
from brats_infer.train.distributed import is_first

CACHE = "cache"
FEW = 3  # cases in a line of the summary


@dataclass(frozen=True)
class Material:
    """Folders of cases."""

    data: Path
    cache: Path
    """Keeps preprocessed cases."""
    phantoms: Path | None = None


def check_phantoms(options: TrainOptions, material: Material) -> None:
    """Raises UsageError for a share of phantoms without phantoms."""
    asked = "phantom_share" in options.model_fields_set and options.phantom_share > 0
    if asked and not (material.phantoms or options.anatomy):
        raise UsageError(f"--phantom-share {options.phantom_share:g}: of what: give --phantoms or --anatomy")


def load_cases(options: TrainOptions, fold: Fold, task: str, material: Material) -> Split:
    """The cases of a fold, and what makes new phantoms. The first fold's cases are told in three lines on stderr.

    Raises UsageError, and what `load_split` raises.
    """
    check_phantoms(options, material)
    if options.anatomy and material.phantoms:
        raise UsageError("--phantoms and --anatomy: new phantoms are drawn in place of those: give one of them")
    kind, spacing, clean = Normalisation(options.normalisation), options.spacing, options.clean_labels
    split = load_split(
        material.data,
        task,
        fold.hold_out,
        options.skip,
        kind,
        material.cache,
        material.phantoms,
        spacing,
        clean,
        others=options.anatomy is not None,
    )
    if is_first() and fold.number in (None, 0):
        for line in summary(split, task_named(task), material.data):
            say(Screen(), line)
    if options.anatomy:
        maker = phantom_maker(options.anatomy, task_named(task), kind, split.histogram, spacing, clean)
        split = replace(split, fresh=maker)
    if options.phantom_share == 0 and not split.training:
        raise UsageError(f"--phantom-share 0: all cases of {material.data} are held out or skipped: hold out fewer")
    return split


def summary(split: Split, task: Task, folder: Path) -> tuple[str, str, str]:
    """What a run finds in a folder: the cases, those that are left out, and the labels."""
    cases = (*split.training, *split.validation)
    total = len(cases) + len(split.left_out) + split.skipped
    patients = len({patient_of(case.id) for case in cases})
    used = f"{len(cases)} used, of {patients} patients, {split.skipped} skipped, {len(split.left_out)} left out"
    filled = {region.name: sum(len(case.centres[n]) > 0 for case in cases) for n, region in enumerate(task.regions)}
    empty = [case.id for case in cases if not len(case.centres[0])]
    labels = ", ".join(f"{name} in {count}" for name, count in filled.items())
    return (
        f"{folder}: {total} cases: {used}",
        f"left out: {_first(split.left_out)}",
        f"labels: {labels} of {len(cases)} cases; empty label maps: {_first(empty)}",
    )


def _first(texts: Sequence[str]) -> str:
    """The first texts, and how many more there are."""
    more = f"; and {len(texts) - FEW} more" if len(texts) > FEW else ""
    return "; ".join(texts[:FEW]) + more if texts else "none"
