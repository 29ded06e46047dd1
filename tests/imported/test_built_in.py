"""`make image WEIGHTS=DIR` builds in the members of a folder; here with a stand-in for Docker."""

import os
import subprocess
from pathlib import Path

import pytest

from model.checkpoint import read_manifest
from tests.imported.fixtures import imported

BUILD = Path(__file__).parents[1] / "container" / "build.sh"
DOCKER = """#!/bin/sh
[ "$1" = build ] || exit 1
for context; do :; done
cp -r "$context/weights" "$SEEN"
ls "$context" > "$SEEN/context.txt"
"""


def built(tmp_path: Path, weights: Path | None) -> subprocess.CompletedProcess[str]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text(DOCKER)
    (tmp_path / "bin" / "docker").chmod(0o755)
    variables = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SEEN": str(tmp_path / "seen")}
    variables |= {"TMPDIR": str(tmp_path), "WEIGHTS": str(weights or "")}
    command = [BUILD, "cuda", "name"]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("own", [True, False], ids=["imported", "shipped"])
def test_the_image_holds_the_members_of_the_folder(own: bool, tmp_path: Path) -> None:
    weights = tmp_path / "weights" if own else None
    members = imported("flat4-labels", tmp_path / "weights")
    done = built(tmp_path, weights)
    assert done.returncode == 0, done.stderr
    found = read_manifest(tmp_path / "seen")
    assert (found == members) is own
    assert {member.file for member in found} <= {path.name for path in (tmp_path / "seen").iterdir()}
    assert {"Dockerfile", "brats_infer", "model"} <= set((tmp_path / "seen" / "context.txt").read_text().split())
    assert not list(tmp_path.glob("tmp.*")), "the copy is removed"


def test_a_folder_without_members_is_refused(tmp_path: Path) -> None:
    done = built(tmp_path, tmp_path)
    assert (done.returncode, "no manifest.json" in done.stderr) == (1, True)
    assert not (tmp_path / "seen").exists()
