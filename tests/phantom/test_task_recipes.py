"""One recipe a challenge, under IDs that the challenge knows."""

import pytest

from brats_infer.errors import UsageError
from brats_infer.phantom.task_recipes import RECIPES, recipe_of
from brats_infer.tasks import MODALITIES, TASKS, task_of_id


def test_every_challenge_has_phantoms_and_another_task_is_answered_with_the_choice() -> None:
    assert set(RECIPES) == set(TASKS)
    with pytest.raises(UsageError, match="there are no phantoms of cyst: choose one of gli, ssa, men"):
        recipe_of("cyst")


@pytest.mark.parametrize("task", RECIPES)
def test_ids_are_those_of_the_challenge_and_no_two_are_alike(task: str) -> None:
    ids = [RECIPES[task].case_id(number) for number in (0, 9999, 10_000, 99_999)]
    assert all(task_of_id(case_id) is TASKS[task] for case_id in ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("task", RECIPES)
def test_labels_contrasts_and_tumors_are_those_of_the_challenge(task: str) -> None:
    recipe = RECIPES[task]
    assert set(recipe.labels.values()) == set(TASKS[task].labels)
    assert [MODALITIES[channel] for channel in recipe.scanner.channels] == list(TASKS[task].modalities)
    for contrast in (recipe.contrast, recipe.low_grade_contrast):
        assert set(recipe.labels) <= set(contrast)
