"""Damaged files through the reader: each is a valid volume or our own error, within five seconds and a gigabyte.

    python -m tests.faults.fuzz [--files 20000] [--first 0] [--keep FOLDER] [--replay FILE ...]

A file that ends otherwise (another exception, a warning, a crash, a hang, more memory) is left in the working folder,
which is named at the end. --keep saves the first file of each kind of ending; tests/faults/corpus was made so.
"""

import argparse
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brats_infer.errors import CaseError
from brats_infer.files.nifti import read_geometry, read_volume
from tests.faults.mutations import damaged

SECONDS = 5.0  # of the processor, a file: the largest take a fifth of one, five times that where memory is slow to come
KEPT = 2**12  # bytes
MEMORY = 2**30  # bytes of address space beyond what the program has when it starts


def limit_memory() -> None:
    """From now on more raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def ending(path: Path) -> str:
    """ "valid", or our own message without the file's name and numbers. Raises whatever else happens.

    The system's own timer ends the process after some seconds: a hang inside a library lets no exception through.
    """
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    message = read(path)
    signal.setitimer(signal.ITIMER_PROF, 0)
    if message.startswith("valid"):
        return message
    assert message.startswith(f"{path}: "), message
    assert message.isprintable(), message
    return kind_of(message.removeprefix(f"{path}: "))


def read(path: Path) -> str:
    try:
        volume = read_volume(path)
    except CaseError as error:
        return str(error)
    assert volume.data.dtype in (np.float32, np.int16, np.uint16, np.int8, np.uint8)
    assert volume.data.shape == volume.geometry.shape == read_geometry(path).shape
    assert np.isfinite(volume.data).all()
    assert np.isfinite(volume.geometry.affine).all()
    assert volume.geometry.voxel_mm3 > 0
    return "valid, with a warning" if volume.warnings else "valid"


def kind_of(message: str) -> str:
    return re.sub(r"[^a-z]+", " ", re.sub(r"\([^)]*\)|\S*\d\S*", "", message.lower())).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--replay", type=Path, nargs="+", default=[], help="these files instead")
    given = parser.parse_args()
    warnings.simplefilter("error")
    limit_memory()
    numbers = range(given.first, given.first + given.files)
    files = ((path.name, path.read_bytes()) for path in given.replay) if given.replay else map(damaged, numbers)
    for kind, count in hunt(files, given.keep).most_common():
        sys.stdout.write(f"{count:7} {kind}\n")


def hunt(files: Iterable[tuple[str, bytes]], keep: Path | None) -> Counter[str]:
    """How often each ending came; the file being read lies in a folder that is named first, and stays if it is odd."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    sys.stderr.write(f"working in {folder}\n")
    endings: Counter[str] = Counter()
    for name, content in files:
        path = folder / name
        path.write_bytes(content)
        kind = ending(path)
        endings[kind] += 1
        if keep and endings[kind] == 1 and len(content) < KEPT:
            (keep / f"{kind.replace(' ', '-')[:40]}-{name}").write_bytes(content)
        path.unlink()
    folder.rmdir()
    return endings


if __name__ == "__main__":
    main()
