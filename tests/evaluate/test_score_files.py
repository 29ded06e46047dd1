"""What is written for people and for programs."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from brats_infer.errors import OutputError
from brats_infer.evaluate import CohortScores, evaluate_folders
from brats_infer.evaluate.score_files import print_table, write_csv, write_json
from brats_infer.tasks import task_named
from tests.evaluate.small_cohort import IDS, write_cohort

COLUMNS = [
    *("case", "region", "num_tp", "num_fp", "num_fn", "sensitivity", "specificity"),
    *("legacy_dice", "legacy_hd95", "reference_volume", "lesionwise_dice", "lesionwise_hd95"),
]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> CohortScores:
    folders = write_cohort(tmp_path_factory.mktemp("cohort"))
    (folders[0] / f"{IDS[2]}.nii.gz").unlink()
    return evaluate_folders(*folders, task_named("gli"), jobs=1)


def test_csv_has_a_row_a_case_and_region_with_numbers_in_full(scores: CohortScores, tmp_path: Path) -> None:
    write_csv(scores, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == COLUMNS
    assert [row[:2] for row in rows[1:]] == [[case_id, region] for case_id in IDS for region in ("WT", "TC", "ET")]
    assert rows[1][2] == "1"
    assert float(rows[1][5]) == scores.cases[IDS[0]]["WT"]["sensitivity"]


def test_json_has_the_rows_the_mean_and_the_missing(scores: CohortScores, tmp_path: Path) -> None:
    write_json(scores, tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert [list(row) for row in content["cases"]] == [COLUMNS] * 9
    assert content["cases"][4] == {"case": IDS[1], "region": "TC", **scores.cases[IDS[1]]["TC"]}
    assert content["mean"][2] == {"region": "ET", **scores.mean["ET"]}
    assert (content["task"], content["metrics"], content["missing"]) == ("gli", "2023", [IDS[2]])


def test_numbers_that_json_does_not_know_become_null(scores: CohortScores, tmp_path: Path) -> None:
    odd = replace(scores, mean={"WT": {"legacy_hd95": float("inf"), "legacy_dice": float("nan")}})
    write_json(odd, tmp_path / "scores.json")
    mean = json.loads((tmp_path / "scores.json").read_text())["mean"]
    assert mean == [{"region": "WT", "legacy_hd95": None, "legacy_dice": None}]


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_is_never_cut(scores: CohortScores, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(scores, width)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert any(line.split()[:5] == [IDS[0], "WT", "1", "0", "0"] for line in lines)
    assert sum(line.split()[:1] == ["mean"] for line in lines) == 3
    assert "…" not in shown
    assert lines[-1] == f"1 missing predictions got the worst scores: {IDS[2]}"


def test_a_name_is_shown_as_it_is(scores: CohortScores, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "[red]a[/]\x1b[1m\udcff"
    print_table(replace(scores, cases={odd: next(iter(scores.cases.values()))}, missing=(odd,)))
    shown = capsys.readouterr().out
    assert shown.count(r"[red]a[/]\x1b[1m\udcff") == 3 + 1
    assert "\x1b" not in shown


def test_a_file_that_cannot_be_written_is_named(scores: CohortScores, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"absent/scores\.csv"):
        write_csv(scores, tmp_path / "absent" / "scores.csv")


def test_links_are_followed_and_pipes_are_written_to(scores: CohortScores, tmp_path: Path) -> None:
    write_csv(scores, tmp_path / "plain.csv")
    expected = (tmp_path / "plain.csv").read_bytes()
    (tmp_path / "link.csv").symlink_to("target.csv")
    write_csv(scores, tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_bytes() == expected
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_csv(scores, tmp_path / "pipe")
        assert read.result(10) == expected
    assert (tmp_path / "pipe").is_fifo()


def test_names_that_are_no_text_are_written_all_the_same(scores: CohortScores, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    named = replace(scores, cases={odd: next(iter(scores.cases.values()))})
    write_csv(named, tmp_path / "scores.csv")
    assert "caf\\udce9" in (tmp_path / "scores.csv").read_text()
