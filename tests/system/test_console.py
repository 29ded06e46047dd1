"""Lines that are shown whatever the environment says of the terminal."""

import pytest

from brats_infer.system.console import Screen, say


@pytest.mark.parametrize("columns", ["0", "1", "80"])
def test_a_line_is_whole_on_a_screen_of_any_width(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    line = "[1/10] BraTS-GLI-90001-000[bold]: written in 5.1 s"
    say(Screen(), line)
    assert capsys.readouterr().err == f"{line}\n"
