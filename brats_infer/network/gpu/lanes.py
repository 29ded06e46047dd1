"""The numbers of cases in progress with a GPU, and how their threads share the GIL."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from brats_infer.network.ensemble import Lanes
from brats_infer.network.gpu.memory import release_memory
from brats_infer.system.cores import usable_cores

MOST_READING = 8
COMPUTING = 5
"""One case computes, the next case waits in the GPU's queue, other cases are copied to and from the GPU."""
SWITCH_INTERVAL = 5e-4  # seconds, instead of 5e-3: GPU threads need the GIL for each of many small steps


def lanes() -> Lanes:
    """Many readers and writers: a core reads or post-processes a case more slowly than the GPU computes it."""
    return Lanes(min(MOST_READING, max(2, usable_cores() // 2)), COMPUTING)


@contextmanager
def working() -> Iterator[Lanes]:
    """Shortens the GIL's switch interval, and frees cached GPU memory at the end."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield lanes()
    finally:
        sys.setswitchinterval(before)
        release_memory()
