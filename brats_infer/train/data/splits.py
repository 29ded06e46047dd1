"""The folds of a command, and the cases that each of them holds out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brats_infer.errors import UsageError
from brats_infer.tasks import patient_of
from brats_infer.train.choices import TrainOptions
from brats_infer.train.data.labelled import labelled_ids


@dataclass(frozen=True)
class Fold:
    """One run of a command."""

    number: int | None
    """None if the command has only one run."""
    hold_out: tuple[str, ...]
    index: int = 0
    """Is added to the seed, so that the networks of an ensemble start from different numbers."""

    def folder(self, out: Path) -> Path:
        """The folder of this run, in the folder of the command."""
        return out if self.number is None else out / f"fold-{self.number}"


def folds_of(options: TrainOptions, task: str, data: Path) -> Iterator[Fold]:
    """The runs of a command. Raises UsageError for a fold that does not exist."""
    if options.folds is None:
        if "fold" in options.model_fields_set:
            raise UsageError(f"--fold {options.fold}: of how many: give --folds too")
        yield Fold(None, options.hold_out)
        return
    held_out = fold_hold_outs(labelled_ids(data, task, options.skip), options.folds, options.seed)
    if options.fold == "all":
        yield from (Fold(number, tuple(ids), number) for number, ids in enumerate(held_out))
    elif options.fold < options.folds:
        yield Fold(None, tuple(held_out[options.fold]), options.fold)
    else:
        raise UsageError(f"--fold {options.fold}: choose one from 0 to {options.folds - 1}, or all")


def fold_hold_outs(ids: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """The IDs that each of `folds` folds holds out. Every case is held out once, together with its patient's others.

    The first of ten folds is the paper's 90:10 split. The same IDs and seed give the same folds. Raises UsageError for
    fewer patients than folds.
    """
    patients = sorted({patient_of(case_id) for case_id in ids})
    if folds > len(patients):
        raise UsageError(f"--folds {folds}: there are labelled cases of {len(patients)} patients only: choose fewer")
    np.random.default_rng(seed).shuffle(patients)
    return [sorted(i for i in ids if patient_of(i) in patients[fold::folds]) for fold in range(folds)]
