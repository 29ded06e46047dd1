"""How many cases a run has under way beside a GPU, and how its threads share the GIL."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from brats_infer.network.ensemble import Lanes
from brats_infer.network.gpu.memory import release_memory
from brats_infer.system.cores import usable_cores

MOST_READING = 8
COMPUTING = 5
"""One case is computed, the next one waits in the GPU's queue, others are copied there and back."""
SWITCH_INTERVAL = 5e-4  # seconds, for 5e-3: a GPU's threads ask for the GIL before each of many small steps


def lanes() -> Lanes:
    """Reading a case, and post-processing one, takes a core longer than a GPU takes for it."""
    return Lanes(min(MOST_READING, max(2, usable_cores() // 2)), COMPUTING)


@contextmanager
def working() -> Iterator[Lanes]:
    """Shortens the switch interval, and gives memory back to other programs at the end."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield lanes()
    finally:
        sys.setswitchinterval(before)
        release_memory()
