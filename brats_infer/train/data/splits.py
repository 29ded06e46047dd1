"""Which cases are held out."""

from collections.abc import Sequence

import numpy as np

from brats_infer.errors import UsageError
from brats_infer.tasks import patient_of


def fold_hold_outs(ids: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """The IDs that each of `folds` folds holds out: every case once, all cases of a patient together.

    The first of ten folds is the paper's 90:10 split. Same IDs and seed, same folds. Raises UsageError for fewer
    patients than folds.
    """
    patients = sorted({patient_of(case_id) for case_id in ids})
    if folds > len(patients):
        raise UsageError(f"--folds {folds}: there are labelled cases of {len(patients)} patients only: choose fewer")
    np.random.default_rng(seed).shuffle(patients)
    return [sorted(i for i in ids if patient_of(i) in patients[fold::folds]) for fold in range(folds)]
