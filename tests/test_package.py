"""What `pip install .` installs."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


def test_an_installed_program_has_its_weights_recipes_and_page(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    for name in ("brats_infer", "model", "weights"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=project, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    inside = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert inside == {
        str(path.relative_to(project))
        for folder in ("brats_infer", "model", "weights")
        for path in (project / folder).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("own", ["model.py", "model/__init__.py", "models.py"])
def test_a_model_of_ones_own_that_hides_the_package_is_named(own: str, tmp_path: Path) -> None:
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text("")
    code = f"import sys; sys.path[1:1] = [{str(ROOT)!r}]; import brats_infer; print(brats_infer.segment.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    hidden = f"ImportError: brats-opt comes with a package `model`, but {tmp_path / own} is found first: rename that"
    assert (hidden in done.stderr, done.stdout) == ((True, "") if own != "models.py" else (False, "segment\n"))


def test_a_checkout_behind_a_link_is_itself(tmp_path: Path) -> None:
    (tmp_path / "brats_infer").symlink_to(ROOT / "brats_infer")
    code = f"import sys; sys.path[1:1] = [{str(ROOT)!r}]; import brats_infer; print(brats_infer.segment.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "segment\n", done.stderr


def test_public_names_are_imported_on_first_use() -> None:
    code = (
        "import sys, brats_infer; assert not {'torch', 'SimpleITK', 'numpy'} & set(sys.modules); "
        "from brats_infer import prepare, restore; print(prepare.__name__, restore.__name__); "
        "print(set(brats_infer.HOMES) ^ set(brats_infer.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "prepare restore\n{'__version__'}\n", done.stderr
