"""The challenge that case IDs name, beside the one that `--task` names."""

from collections.abc import Sequence

from brats_infer.errors import UsageError
from brats_infer.tasks import ID_OF_2023, ID_UNTIL_2021, TASKS, Task, other_challenge, task_named

AUTO = "auto"


def challenge_of_id(case_id: str) -> str | None:
    """The challenge that an ID names, also one that is not in `TASKS`; None if the ID names none."""
    if other := other_challenge(case_id):
        return other
    if found := ID_OF_2023.fullmatch(case_id):
        return found[1].lower()
    return "gli" if id_is_until_2021(case_id) else None


def id_is_of_2023(case_id: str) -> bool:
    """Whether an ID is of the challenges from 2023 on, such as BraTS-GLI-00001-000."""
    return ID_OF_2023.fullmatch(case_id) is not None


def id_is_until_2021(case_id: str) -> bool:
    """Whether an ID is of a challenge until 2021, all of adult glioma: Brats18_…, BraTS20_…, BraTS2021_…"""
    return ID_UNTIL_2021.fullmatch(case_id) is not None


def task_for(case_ids: Sequence[str], name: str) -> Task:
    """The challenge called `name`; for "auto" the one that every ID names. Raises UsageError if they name none."""
    if name != AUTO:
        return task_named(name)
    choice = f"give --task {'|'.join(TASKS)}"
    named = {challenge_of_id(case_id): case_id for case_id in reversed(case_ids)}
    if None in named:
        raise UsageError(f"the case ID {named[None]} does not tell the challenge: {choice}")
    if len(named) > 1:
        shown = ", ".join(f"{case_id} ({challenge})" for challenge, case_id in named.items())
        raise UsageError(f"the case IDs name several challenges, {shown}: score one at a time, or {choice}")
    ((challenge, case_id),) = named.items()
    if challenge not in TASKS:
        raise UsageError(f"the case ID {case_id} is of the challenge {challenge}, whose rules are not known: {choice}")
    return task_named(str(challenge))


def of_another_challenge(case_ids: Sequence[str], task: Task) -> str | None:
    """A warning if IDs name another challenge than the task; None if they do not."""
    others = [case_id for case_id in case_ids if challenge_of_id(case_id) not in (None, task.name)]
    if not others:
        return None
    challenge = challenge_of_id(others[0])
    return (
        f"--task {task.name}: {len(others)} of {len(case_ids)} case IDs tell another challenge, "
        f"the first {others[0]} ({challenge}): the rules of {task.name} score them"
    )
