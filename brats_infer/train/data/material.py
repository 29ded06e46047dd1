"""The folders that the cases of a run come from, and the cases of one fold."""

from dataclasses import dataclass, replace
from pathlib import Path

from brats_infer.errors import UsageError
from brats_infer.image.normalise import Normalisation
from brats_infer.tasks import task_named
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.dataset import Split, load_split
from brats_infer.train.data.fresh import phantom_maker
from brats_infer.train.data.splits import Fold

CACHE = "cache"


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
    """The cases of a fold, and what makes new phantoms. Raises UsageError, and what `load_split` raises."""
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
    if options.anatomy:
        maker = phantom_maker(options.anatomy, task_named(task), kind, split.histogram, spacing, clean)
        split = replace(split, fresh=maker)
    if options.phantom_share == 0 and not split.training:
        raise UsageError(f"--phantom-share 0: all cases of {material.data} are held out or skipped: hold out fewer")
    return split
