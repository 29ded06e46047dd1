"""The part of the cases that this run takes, from the variables of Slurm, Kubernetes or torchrun."""

from collections.abc import Mapping
from dataclasses import dataclass

from brats_infer.errors import UsageError

SLURM = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT"))
KUBERNETES = ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS")
TORCHRUN = ("RANK", "WORLD_SIZE")
INSTEAD = "or give --shard K/N (1/1: all cases)"


@dataclass(frozen=True)
class Shard:
    """The `number`-th (from 1) of `count` parts."""

    number: int = 1
    count: int = 1
    source: str = ""
    """The variable behind it; empty if the command line gives the part."""

    def __str__(self) -> str:
        """Text for the log; empty if there is only one part."""
        if self.count == 1:
            return ""
        return f"part {self.number}/{self.count}" + (f" ({self.source})" if self.source else "")


def shard_of(environment: Mapping[str, str]) -> Shard:
    """The part that the environment asks for, by default all cases.

    Raises UsageError, naming the variables, if they are incomplete or disagree.
    """
    found = [shard for read in (_of_slurm, _of_kubernetes, _of_torchrun) if (shard := read(environment)).count > 1]
    if len(found) > 1:
        raise UsageError(f"{' and '.join(shard.source for shard in found)} both ask for a part: give --shard K/N")
    return found[0] if found else Shard()


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    """Slurm sets all variables for each task of an array, and none elsewhere."""
    if SLURM[0] not in environment:
        return Shard()
    number, first, last, step, count = _numbers(environment, SLURM)
    index, odd = divmod(number - first, max(1, step))
    if odd or last - first != step * (count - 1):
        raise UsageError(f"{SLURM[0]}={number}: the array is no range of even steps, such as 1-8: change it, {INSTEAD}")
    return _shard(SLURM, number, index, count)


def _of_kubernetes(environment: Mapping[str, str]) -> Shard:
    """Kubernetes sets only the index; the job's file sets the count as a variable."""
    if KUBERNETES[0] not in environment:
        return Shard()
    index, count = _numbers(environment, KUBERNETES)
    return _shard(KUBERNETES, index, index, count)


def _of_torchrun(environment: Mapping[str, str]) -> Shard:
    """torchrun sets both variables; a single variable comes from another program, as the names are common."""
    if not all(name in environment for name in TORCHRUN):
        return Shard()
    index, count = _numbers(environment, TORCHRUN)
    return _shard(TORCHRUN, index, index, count)


def _numbers(environment: Mapping[str, str], names: tuple[str, ...]) -> list[int]:
    missing = [name for name in names if name not in environment]
    if missing:
        raise UsageError(f"{names[0]} is set, {' and '.join(missing)} not: set that too, {INSTEAD}")
    for name in names:
        if not (environment[name].isascii() and environment[name].isdecimal()):
            raise UsageError(f"{name}={environment[name]!r} is no number: set it right, {INSTEAD}")
    return [int(environment[name]) for name in names]


def _shard(names: tuple[str, ...], number: int, index: int, count: int) -> Shard:
    if not 0 <= index < count:
        raise UsageError(f"{names[0]}={number} is none of {count} parts: set the variables right, {INSTEAD}")
    return Shard(index + 1, count, f"{names[0]}={number}")
