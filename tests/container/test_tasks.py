"""Cases of every challenge that `tasks.py` lists, each alone and all in one folder.

The image has the members of the checkout (`test_it_knows_its_members`).
"""

import shutil
from pathlib import Path

import pytest

from brats_infer.files.check import check_output
from brats_infer.files.labels import read_labels
from brats_infer.network.loading import tasks_with_member
from brats_infer.phantom.write import write_cohort
from brats_infer.tasks import TASKS, task_of_id
from tests.container.engine import ROOT, contents, folders, run

WITH_MEMBER = sorted(tasks_with_member(ROOT / "weights") & set(TASKS))
WITHOUT_MEMBER = sorted(set(TASKS) - set(WITH_MEMBER))
SHAPE = (60, 68, 52)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each task a folder of its name, with one small case."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        list(write_cohort(folder / task, task, 1, seed=1, shape=SHAPE))
    return folder


def errors(cases: Path, output: Path) -> list[str]:
    """What `brats-opt check` calls an error; an empty map is none."""
    return [finding.message for finding in check_output(cases, output) if not finding.warning]


@pytest.mark.parametrize("task", WITH_MEMBER)
def test_a_case_of_a_task_with_a_member_gets_its_map(cases: Path, output: Path, task: str) -> None:
    done = run("--task", task, volumes=folders(cases / task, output))
    assert done.returncode == 0, done.stderr
    assert "blank" not in done.stderr  # the map of a case that has failed
    assert errors(cases / task, output) == []


@pytest.mark.parametrize("task", WITHOUT_MEMBER)
def test_a_task_without_a_member_says_so_and_writes_nothing(cases: Path, output: Path, task: str) -> None:
    done = run("--task", task, volumes=folders(cases / task, output))
    assert (done.returncode, contents(output)) == (5, {})
    assert f"lists no member for the task {task}: " in done.stderr


def test_a_folder_of_all_challenges_goes_case_by_case(cases: Path, output: Path, tmp_path: Path) -> None:
    """A case of a task without a member gets a blank map, as any case that fails."""
    for task in TASKS:
        shutil.copytree(cases / task, tmp_path / "all", dirs_exist_ok=True)
    done = run(volumes=folders(tmp_path / "all", output))
    assert done.returncode == 0, done.stderr
    assert errors(tmp_path / "all", output) == []
    failed = [line for line in done.stderr.splitlines() if "blank" in line]
    assert len(failed) == len(WITHOUT_MEMBER), done.stderr
    for path in output.iterdir():
        task = task_of_id(path.name.removesuffix(".nii.gz"))
        assert task, path
        labels, _ = read_labels(path)
        assert set(labels.flat) <= {0, *task.labels}
        assert not (task.name in WITHOUT_MEMBER and labels.any())
