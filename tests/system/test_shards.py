"""Which part of the cases a run takes, from what Slurm, Kubernetes and torchrun put into its environment."""

import pytest

from brats_infer.errors import UsageError
from brats_infer.system.shards import Shard, shard_of


def slurm(number: int, first: int, last: int, step: int, count: int) -> dict[str, str]:
    """As Slurm sets them for a task of `--array=first-last:step`."""
    values = {"ID": number, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def kubernetes(index: object, completions: object) -> dict[str, str]:
    return {"JOB_COMPLETION_INDEX": str(index), "JOB_COMPLETIONS": str(completions)}


def torchrun(rank: object, size: object) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(size)}


@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 1), (17, 1), (0, 2), (5, 10)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_tasks_of_a_slurm_array_take_every_part_once(first: int, step: int, count: int) -> None:
    last = first + step * (count - 1)
    parts = [shard_of(slurm(number, first, last, step, count)) for number in range(first, last + 1, step)]
    assert [(part.number, part.count) for part in parts] == [(k, count) for k in range(1, count + 1)]


@pytest.mark.parametrize("kind", [kubernetes, torchrun])
def test_pods_and_ranks_take_every_part_once(kind: object) -> None:
    parts = [shard_of(kind(index, 3)) for index in range(3)]  # type: ignore[operator]
    assert [(part.number, part.count) for part in parts] == [(1, 3), (2, 3), (3, 3)]


def test_a_part_says_which_it_is_and_why() -> None:
    assert str(shard_of(slurm(4, 0, 14, 2, 8))) == "part 3/8 (SLURM_ARRAY_TASK_ID=4)"
    assert str(shard_of(kubernetes(0, 2))) == "part 1/2 (JOB_COMPLETION_INDEX=0)"
    assert str(shard_of(torchrun(1, 2))) == "part 2/2 (RANK=1)"
    assert str(Shard(2, 5)) == "part 2/5"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "77", "SLURM_PROCID": "1", "SLURM_NTASKS": "4"},
        {"RANK": "1"},
        {"WORLD_SIZE": "4"},
        {"JOB_COMPLETIONS": "4"},
        torchrun(0, 1),
        kubernetes(0, 1),
        slurm(3, 3, 3, 1, 1),
    ],
)
def test_a_plain_run_takes_all_cases(environment: dict[str, str]) -> None:
    assert shard_of(environment) == Shard()
    assert str(shard_of(environment)) == ""


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETION_INDEX is set, JOB_COMPLETIONS not"),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0"}, "SLURM_ARRAY_TASK_COUNT not"),
        (slurm(7, 1, 7, 2, 3), "no range of even steps"),  # --array=1,3,7
        (slurm(2, 1, 7, 2, 4), "no range of even steps"),
        (kubernetes(3, 3), "JOB_COMPLETION_INDEX=3 is none of 3 parts"),
        (torchrun(0, 0), "RANK=0 is none of 0 parts"),
        (torchrun(-1, 2), "RANK='-1' is no number"),
        (torchrun("٣", 4), "RANK='٣' is no number"),
        (kubernetes(0, ""), "JOB_COMPLETIONS='' is no number"),
    ],
)
def test_half_a_part_is_refused_with_the_names_of_its_variables(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match="--shard") as refused:
        shard_of(environment)
    assert said in str(refused.value)


def test_two_that_start_runs_are_not_guessed_between() -> None:
    with pytest.raises(UsageError, match="SLURM_ARRAY_TASK_ID=1 and RANK=0 both ask for a part"):
        shard_of(slurm(1, 0, 3, 1, 4) | torchrun(0, 2))
    assert shard_of(slurm(1, 0, 3, 1, 4) | torchrun(0, 1)).count == 4, "one rank is no part"
