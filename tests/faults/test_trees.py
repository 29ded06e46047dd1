"""Made-up input folders by the thousand: no image vanishes without a word."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from brats_infer.files.search.groups import Found, search
from tests.faults import trees


@pytest.fixture(autouse=True)
def usual_logging() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


def test_in_a_few_hundred_folders_no_image_vanishes(tmp_path: Path) -> None:
    endings = trees.hunt(0, 300, tmp_path / "trees")
    assert endings.total() == 600
    assert min(endings[kind] for kind in ("sound", "some fail", "NoCasesError", "UsageError")) > 5


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 6000, 1000))
def test_in_five_thousand_folders_no_image_vanishes(tmp_path: Path, first: int) -> None:
    assert trees.hunt(first, 1000, tmp_path / "trees").total() == 2000


@pytest.mark.parametrize("fault", ["a line", "a case", "twice"])
def test_the_hunt_ends_at_an_image_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """What it looks for is found, should it be there."""

    def broken(*args: object) -> Found:
        found = search(*args)  # type: ignore[arg-type]
        if fault == "a line":
            found.left_out.clear()
        elif fault == "a case":
            del found.cases[:1]
        else:
            found.cases *= 2
        return found

    monkeypatch.setattr(trees, "search", broken)
    with pytest.raises(AssertionError, match="tree "):
        trees.hunt(0, 300, tmp_path / "trees")


def test_the_same_number_gives_the_same_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        trees.make_tree(7 if name != "c" else 8, tmp_path / name)
    a, b, c = (
        sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")) for name in "abc"
    )
    assert a == b
    assert a != c
