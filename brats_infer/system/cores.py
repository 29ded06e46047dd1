"""How many cores there are for this process; light to import."""

import math
import os
from contextlib import suppress
from pathlib import Path

CPU_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max", ""),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
"""Microseconds granted and per how many, of control groups version 2 and 1."""
THREAD_COUNTS = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")
SHARE = 4
"""A library's part of the threads that a container may have: torch and OpenVINO take so many each, others a few."""


def usable_cores() -> int:
    """How many processes, or threads of one thread each, may work at once: what this process and its container may use.

    OMP_NUM_THREADS does not count: that is how many threads each of them may have.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *_granted()])


def thread_limit() -> int | None:
    """How many threads may compute where something limits them below what the processor has; None: nothing does.

    OMP_NUM_THREADS, or the container's share of the processor's time or of threads: libraries do not see the latter,
    start a thread for every core of the host, and wait for each other or find that no more can be started.
    """
    asked = [int(text) for text in [os.environ.get("OMP_NUM_THREADS", "")] if text.isdecimal() and int(text)]
    limit = min(asked + _granted(), default=0)
    return limit if 0 < limit < (os.cpu_count() or 1) else None


def _granted() -> list[int]:
    """What the container's control groups allow, as far as they limit anything."""
    limits: list[int] = []
    for quota, period in CPU_QUOTAS:
        try:
            granted, per = " ".join(Path(file).read_text(encoding="ascii") for file in (quota, period) if file).split()
            limits += [math.ceil(int(granted) / int(per))] if int(granted) > 0 else []
        except (OSError, ValueError):  # another version of control groups, or "max"
            continue
    for file in THREAD_COUNTS:
        with suppress(OSError, ValueError):
            limits.append(max(1, int(Path(file).read_text(encoding="ascii")) // SHARE))
    return limits
