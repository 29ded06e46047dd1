"""How the tests start containers: through the command line, as organizers do."""

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
IMAGE: str = yaml.safe_load((ROOT / "mlcube" / "mlcube.yaml").read_text())["docker"]["image"]
ORGANIZERS = "BRATS_OPT_ORGANIZERS"  # the environment variable that names the virtual environment of their programs
OFFLINE = ("--rm", "--network", "none")
ONE_THREAD = ("-e", "OMP_NUM_THREADS=1")  # small volumes, and often a busy machine: threads would only wait
SECONDS = 300  # for one run; most need a few


def docker(*args: object) -> str:
    """The standard output of a docker command that succeeds."""
    done = subprocess.run(["docker", *map(str, args)], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def command(*args: object, volumes: Iterable[str], options: Iterable[str] = ()) -> list[str]:
    """`docker run` of the image with `args`; volumes are `source:target[:ro]`, later options win."""
    mounts = [word for volume in volumes for word in ("-v", volume)]
    return ["docker", "run", *OFFLINE, *ONE_THREAD, *mounts, *options, IMAGE, *map(str, args)]


def run(*args: object, volumes: Iterable[str], options: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """That command, to its end."""
    return subprocess.run(
        command(*args, volumes=volumes, options=options), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def folders(source: Path, target: Path) -> tuple[str, str]:
    """The volumes of a run by hand or of 2025, the input mounted read-only."""
    return f"{source}:/input:ro", f"{target}:/output"


def contents(folder: Path) -> dict[str, bytes]:
    """{name: bytes} of everything in an output folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_renamed_case(source: Path, folder: Path, case_id: str) -> None:
    """A copy of a case's images under another ID, as links."""
    (folder / case_id).mkdir(parents=True)
    for path in source.iterdir():
        os.link(path, folder / case_id / path.name.replace(source.name, case_id))
