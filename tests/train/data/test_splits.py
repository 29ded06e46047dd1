"""Folds: every case once, patients whole, the same for the same seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brats_infer.errors import UsageError
from brats_infer.tasks import patient_of
from brats_infer.train.data.splits import fold_hold_outs

IDS = [f"BraTS-GLI-{patient:05d}-{time:03d}" for patient in range(10) for time in range(1 + patient % 3)]


@given(folds=st.integers(2, 10), seed=st.integers(0, 99))
def test_folds_share_out_all_cases_and_no_patient_is_on_both_sides(folds: int, seed: int) -> None:
    held_out = fold_hold_outs(IDS, folds, seed)
    assert sorted(case_id for fold in held_out for case_id in fold) == IDS
    for fold in held_out:
        trained = set(IDS) - set(fold)
        assert not {patient_of(i) for i in fold} & {patient_of(i) for i in trained}
        assert len({patient_of(i) for i in fold}) in (10 // folds, -(-10 // folds))


def test_seed_decides_and_order_does_not() -> None:
    assert fold_hold_outs(IDS, 5, 1) == fold_hold_outs(IDS[::-1], 5, 1)
    assert fold_hold_outs(IDS, 5, 1) != fold_hold_outs(IDS, 5, 2)


def test_names_of_2021_are_patients_of_their_own() -> None:
    assert fold_hold_outs(["BraTS2021_00001", "BraTS2021_00002"], 2, 0) in (
        [["BraTS2021_00001"], ["BraTS2021_00002"]],
        [["BraTS2021_00002"], ["BraTS2021_00001"]],
    )


def test_sessions_of_bids_belong_to_one_patient() -> None:
    names = [f"sub-{patient:02d}_ses-{session}" for patient in range(3) for session in range(2)]
    assert sorted(fold_hold_outs(names, 3, 0)) == [names[0:2], names[2:4], names[4:6]]


def test_numbers_of_other_names_are_no_examinations() -> None:
    names = [f"{hospital}-{number:03d}" for hospital in ("sub", "HOSPA") for number in range(3)]
    assert sorted(len(fold) for fold in fold_hold_outs(names, 3, 0)) == [2, 2, 2]


def test_more_folds_than_patients_are_refused() -> None:
    with pytest.raises(UsageError, match="--folds 11: there are labelled cases of 10 patients only"):
        fold_hold_outs(IDS, 11, 0)
