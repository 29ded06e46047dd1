"""What is in the image, and what is not."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from model.checkpoint import read_manifest
from tests.container.engine import IMAGE, ROOT, command, docker, folders

MAX_BYTES = {"cpu": 1_600_000_000, "cuda": 6_000_000_000}
MAX_SECONDS_TO_FIRST_LINE = 4.0
NO_FILES = "cuda-toolkit"  # a name for what it depends on
COMPILERS = r"(/usr|.*/venv)(/local)?/s?bin/(.*-)?(cc|gcc|g\+\+|c\+\+|clang|cpp|ld|as|rustc|nvcc|make)(-[\d.]+)?"
PIP = r".*/(pip|ensurepip)/.*|.*/bin/pip[\d.]*|.*/pip-[^/]*\.(whl|dist-info/.*)"
TESTS = r".*/tests?/.*|.*/(test_[^/]*|conftest)\.pyc?"
SCANS = r".*(?<!/mni152_t1_2mm)\.nii(\.gz)?"  # of patients; that one is a template
CACHES = r"/var/(cache|lib/apt/lists)/.*|.*/\.cache/.*"


@pytest.fixture(scope="session")
def files(image: str) -> list[str]:
    """Every file of the image."""
    listed = docker("run", "--rm", "--entrypoint", "find", image, "/", "-xdev", "-type", "f")
    assert "/app/entrypoint.py" in listed
    return listed.splitlines()


@pytest.fixture(scope="session")
def variant(image: str) -> str:
    """Which image it is, by its torch."""
    code = "import torch; print('cuda' if torch.version.cuda else 'cpu')"
    return docker("run", "--rm", "--entrypoint", "python", image, "-c", code).strip()


@pytest.mark.parametrize("what", ["COMPILERS", "PIP", "TESTS", "SCANS", "CACHES"])
def test_it_holds_no(files: list[str], what: str) -> None:
    pattern = re.compile(globals()[what])
    assert [path for path in files if pattern.fullmatch(path)] == []


def test_it_is_small(image: str, variant: str) -> None:
    assert int(docker("image", "inspect", "--format", "{{.Size}}", image)) <= MAX_BYTES[variant]


def test_it_says_something_soon(small: Path, output: Path) -> None:
    """From `docker run` to the first line of the log: the best of three, as the machine does other things too."""
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        with subprocess.Popen(command(volumes=folders(small, output)), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            line = process.stderr.readline()
            seconds.append(time.monotonic() - began)
            process.stderr.read()
        assert re.fullmatch(r"(warning: this machine offers 0 usable CUDA devices|brats-opt [\d.]+): .+\n", line), line
    assert min(seconds) < MAX_SECONDS_TO_FIRST_LINE, seconds


def test_its_name_is_the_same_everywhere() -> None:
    """A name in mlcube.yaml that is not the image's was the most common fault of 2023."""
    config = yaml.safe_load((ROOT / "mlcube" / "container_config.yaml").read_text())
    recipe = subprocess.run(["make", "-n", "image"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert config["image"] == IMAGE
    assert f"build.sh cuda {IMAGE}\n" in recipe


def test_version_and_labels(image: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image))
    prefix = "org.opencontainers.image."
    version = docker("run", "--rm", image, "--version").split()[-1]
    assert labels[f"{prefix}version"] == version
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    assert labels[f"{prefix}licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", labels[f"{prefix}revision"])
    assert labels[f"{prefix}source"]
    assert "@" not in labels[f"{prefix}source"], "a name and a password"


def test_it_knows_its_members(image: str) -> None:
    facts = json.loads(docker("run", "--rm", image, "info", "--json"))
    assert facts["members"] == [member.to_json() for member in read_manifest(ROOT / "weights")]


def test_code_and_weights_lie_above_torch(image: str) -> None:
    """So that a change of them sends no other layer."""
    layers = docker("image", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image).splitlines()
    packages, app = (
        next(i for i, made in enumerate(layers) if re.search(f"COPY .*{path}( |$)", made)) for path in ("/venv", "/app")
    )
    assert app < packages, "the newest comes first"


def test_bill_of_materials_and_licences_list_what_is_locked(image: str, variant: str) -> None:
    lock = (ROOT / "requirements" / f"{variant}.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+==\S+)", lock, re.MULTILINE))
    locked = {part for part in locked if not part.startswith("openvino-telemetry==")}  # sends over the net: taken out
    bill = json.loads(docker("run", "--rm", "--entrypoint", "cat", image, "/app/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    assert {_normal(f"{part['name']}=={part['version']}") for part in bill["components"]} == locked
    table = docker("run", "--rm", "--entrypoint", "cat", image, "/app/licences.md").splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    rows = [row for row in rows if row[0]]  # a licence may go on in lines without a name
    assert {_normal(f"{name}=={version}") for name, version, *_ in rows} == locked
    assert [name for name, _, licence, _ in rows if licence in ("", "UNKNOWN")] == [NO_FILES] * (variant == "cuda")


def _normal(requirement: str) -> str:
    name, version = requirement.split("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


def test_nothing_is_compiled_at_a_run(files: list[str]) -> None:
    """Every module of the program has its bytecode beside it, which does not look at the source's date."""
    modules = [path for path in files if re.fullmatch(r"/app/(brats_infer|model)/.*\.py", path)]
    compiled = {re.sub(r"__pycache__/(.*)\.cpython-\d+\.pyc", r"\1.py", path) for path in files}
    assert modules
    assert set(modules) <= compiled
