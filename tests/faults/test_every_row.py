"""The list of faults, the tests and the documentation speak of the same rows."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROWS = range(1, 36)
TABLE = HERE.parents[1] / "docs" / "faults.md"


@pytest.fixture(scope="module")
def tested() -> set[int]:
    names = [
        node.name
        for path in HERE.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    return {int(found[1]) for name in names if (found := re.match(r"test_(\d\d)_", name))}


@pytest.mark.parametrize("row", ROWS)
def test_row_has_a_test_and_a_line_in_the_documentation(tested: set[int], row: int) -> None:
    assert row in tested
    assert re.search(rf"^\| {row} \|", TABLE.read_text(), re.MULTILINE)


def test_no_test_speaks_of_another_row(tested: set[int]) -> None:
    assert tested == set(ROWS)
