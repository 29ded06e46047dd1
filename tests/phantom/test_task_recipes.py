"""One recipe a challenge, under IDs that the challenge knows."""

import pytest

from brats_infer.errors import UsageError
from brats_infer.phantom.task_recipes import RECIPES, recipe_of
from brats_infer.tasks import TASKS, task_of_id


def test_recipes_are_of_challenges_and_another_one_is_answered_with_the_choice() -> None:
    assert set(RECIPES) < set(TASKS)
    with pytest.raises(UsageError, match="there are no phantoms of met: choose one of gli, ssa, men"):
        recipe_of("met")


@pytest.mark.parametrize("task", RECIPES)
def test_ids_are_those_of_the_challenge(task: str) -> None:
    assert task_of_id(RECIPES[task].id_format.format(99999)) is TASKS[task]
