"""One recipe a challenge, under IDs that the challenge knows."""

import pytest

from brats_infer.phantom.task_recipes import RECIPES
from brats_infer.tasks import TASKS, task_of_id


def test_every_challenge_has_a_recipe() -> None:
    assert list(RECIPES) == list(TASKS)


@pytest.mark.parametrize("task", RECIPES)
def test_ids_are_those_of_the_challenge(task: str) -> None:
    assert task_of_id(RECIPES[task].id_format.format(99999)) is TASKS[task]
