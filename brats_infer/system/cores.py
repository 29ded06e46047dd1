"""The numbers of cores and threads for this process; light to import."""

import math
import os
from contextlib import suppress
from pathlib import Path

CPU_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max", ""),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
"""Files of cgroups version 2 and 1: microseconds granted, and the period."""
THREAD_COUNTS = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")
SHARE = 4
"""A library gets 1/4 of the container's threads: torch and OpenVINO start that many each, others a few."""


def usable_cores() -> int:
    """The number of cores for this process and its container: so many single-threaded workers may run at once.

    OMP_NUM_THREADS does not count: it limits the threads of each worker.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *_granted()])


def thread_limit() -> int | None:
    """The number of compute threads, if a limit below the number of cores exists; else None.

    Limits are OMP_NUM_THREADS, and the container's CPU time and threads. Libraries ignore the container's limits: they
    start a thread for every core of the host. These threads wait for each other, or fail to start.
    """
    asked = [int(text) for text in [os.environ.get("OMP_NUM_THREADS", "")] if text.isdecimal() and int(text)]
    limit = min(asked + _granted(), default=0)
    return limit if 0 < limit < (os.cpu_count() or 1) else None


def _granted() -> list[int]:
    """The limits of the container's cgroups, if there are any."""
    limits: list[int] = []
    for quota, period in CPU_QUOTAS:
        try:
            granted, per = " ".join(Path(file).read_text(encoding="ascii") for file in (quota, period) if file).split()
            limits += [math.ceil(int(granted) / int(per))] if int(granted) > 0 else []
        except (OSError, ValueError):  # another version of cgroups, or "max"
            continue
    for file in THREAD_COUNTS:
        with suppress(OSError, ValueError):
            limits.append(max(1, int(Path(file).read_text(encoding="ascii")) // SHARE))
    return limits
