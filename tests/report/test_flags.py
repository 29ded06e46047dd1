"""The reasons to look at a case."""

import pytest

from brats_infer.image.quality import SKULL_LEFT
from brats_infer.labelling.confidence import UNSURE_MAP
from brats_infer.report.record import flags_of
from brats_infer.run.events import CaseResult, Status

SKULL = f"case: what is not 0 fills 2.65 litres: {SKULL_LEFT}"
DOUBT = f"BraTS-GLI-00001-000: {UNSURE_MAP}: its expected Dice is 0.40, below 0.73: look at the images"
UNSURE, SURE = {"WT": 0.5, "TC": 0.3, "ET": None}, {"WT": 0.9, "TC": 0.9, "ET": None}


@pytest.mark.parametrize(
    ("warnings", "expected_dice", "ml", "flags"),
    [
        ((), SURE, 1.0, []),
        ((DOUBT,), UNSURE, 1.0, ["unsure"]),
        ((SKULL,), SURE, 1.0, ["skull"]),
        (("a.nii.gz: qform and sform differ",), SURE, 1.0, ["odd input"]),
        ((SKULL, "a.nii.gz: qform and sform differ", DOUBT), UNSURE, 1.0, ["unsure", "skull", "odd input"]),
        (("a: no tumor was found, the label map is empty: look at the images",), UNSURE, 0.0, ["empty", "odd input"]),
        (("a: t2w is missing: the map is made from the other contrasts",), SURE, 1.0, ["absent contrast"]),
        ((), {}, 1.0, []),
    ],
)
def test_unstripped_and_unsure_cases_have_flags_of_their_own(
    warnings: tuple[str, ...], expected_dice: dict[str, float | None], ml: float, flags: list[str]
) -> None:
    result = CaseResult("a", Status.WRITTEN, "gli", warnings=warnings, expected_dice=expected_dice)
    assert flags_of(result, {"WT": ml, "TC": 0.0}) == flags


@pytest.mark.parametrize("status", [Status.FAILED, Status.BLANK])
def test_a_case_without_a_map_has_that_flag_alone(status: Status) -> None:
    assert flags_of(CaseResult("a", status, warnings=(SKULL,)), {}) == [status.value]
