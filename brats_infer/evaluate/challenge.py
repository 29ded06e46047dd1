"""The challenge whose rules score a set of cases."""

from collections.abc import Sequence

from brats_infer.errors import UsageError
from brats_infer.tasks import TASKS, Task, challenge_of_id, task_named

AUTO = "auto"


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
