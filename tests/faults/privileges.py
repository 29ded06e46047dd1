"""Commands that take privileges away, so that the tests mean the same whoever runs them."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

UID = 12345
OTHER_USER = (
    ("unshare", "--user", f"--map-user={UID}", f"--map-group={UID}"),
    ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--bounding-set=-all"),
)
NO_NETWORK = (("unshare", "--net"), ("unshare", "--user", "--net"))


def without_capabilities() -> tuple[str, ...]:
    """For root, which may otherwise write what is read-only; another user needs nothing."""
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.getuid() == 0 else ()


def as_other_user(folder: Path) -> tuple[str, ...]:
    """As uid 12345, who has no name here and must reach the folder; where none may, as the user there is."""
    return _first_that_works(OTHER_USER, folder)


def without_network() -> tuple[str, ...]:
    """In a network namespace without interfaces, where the system lets one be made."""
    return _first_that_works(NO_NETWORK, Path("/"))


def _first_that_works(prefixes: tuple[tuple[str, ...], ...], folder: Path) -> tuple[str, ...]:
    trial = ("env", sys.executable, "-c", "import os, sys, torch; os.listdir(sys.argv[1])", folder)
    for prefix in prefixes:
        with suppress(FileNotFoundError):
            if subprocess.run([*prefix, *trial], capture_output=True, check=False).returncode == 0:
                return prefix
    return ()
