"""The facts of the challenges, against the definitions they come from."""

import itertools
import re

import pytest

from brats_infer.errors import UsageError
from brats_infer.tasks import MODALITIES, TASKS, task_named, task_of_id


@pytest.mark.parametrize(
    ("case_id", "task"),
    [
        ("BraTS-GLI-00001-000", "gli"),
        ("BraTS-GLI-02145-101", "gli"),
        ("BraTS2021_00495", "gli"),
        ("BraTS-SSA-00002-000", "ssa"),
        ("BraTS-MEN-00004-000", "men"),
    ],
)
def test_an_id_tells_its_challenge(case_id: str, task: str) -> None:
    found = task_of_id(case_id)
    assert found is not None
    assert found.name == task


@pytest.mark.parametrize(
    "case_id",
    [
        *("BraTS-MET-00001-000", "BraTS-PED-00001-000", "BraTS-GoAT-00001", "BraTS-MEN-RT-0001-1"),
        *("Brats18_2013_20_1", "patient7", "", "BraTS-GLI-0001-000", "BraTS-GLI-00001-000-x", "xBraTS-GLI-00001-000"),
        "BraTS-GLI-00001-000\n",
    ],
)
def test_other_ids_tell_nothing(case_id: str) -> None:
    assert task_of_id(case_id) is None


def test_tasks_are_found_by_name_and_unknown_ones_are_answered_with_the_choice() -> None:
    assert all(task_named(name).name == name for name in ("gli", "ssa", "men"))
    with pytest.raises(UsageError, match="choose one of gli, ssa, men"):
        task_named("met")


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_regions_are_the_challenges_sets_of_labels(task) -> None:
    regions = {region.name: task.region_labels(region) for region in task.regions}
    assert regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    assert task.labels == (1, 2, 3)


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_each_region_lies_inside_the_one_before(task) -> None:
    labels = [set(task.region_labels(region)) for region in task.regions]
    assert all(inner < outer for outer, inner in itertools.pairwise(labels))


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_thresholds_and_dust_are_those_of_the_paper(task) -> None:
    assert {region.name: region.threshold for region in task.regions} == {"WT": 0.45, "TC": 0.40, "ET": 0.45}
    assert ([region.dust_voxels for region in task.regions], task.connectivity) == ([50, 50, 50], 26)


def test_no_id_belongs_to_two_challenges() -> None:
    ids = ("BraTS-GLI-00001-000", "BraTS2021_00495", "BraTS-SSA-00002-000", "BraTS-MEN-00004-000")
    for case_id in ids:
        assert sum(bool(re.fullmatch(task.id_pattern, case_id)) for task in TASKS.values()) == 1


def test_no_ending_of_a_file_means_two_modalities() -> None:
    endings = [suffix for modality in MODALITIES for suffix in modality.suffixes]
    assert len(set(endings)) == len(endings) == 8
    assert not [(a, b) for a in endings for b in endings if a != b and a.endswith(b)]
