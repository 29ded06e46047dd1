"""Settings that do not exist are refused where they are made."""

from typing import Any

import pytest

from brats_infer.errors import UsageError
from brats_infer.settings import Mode, OnError, Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "banana"}, "mode='banana': choose one of coarse-to-fine, sliding-window"),
        ({"on_error": None}, "on_error=None: choose one of fail, blank"),
        ({"dust_fill": "sand"}, "dust_fill='sand'"),
        ({"dust": -1}, "dust counts mm3 from 0"),
        ({"component_probability": float("nan")}, "from 0 to 1"),
    ],
)
def test_what_there_is_not_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**given)


def test_names_will_do() -> None:
    assert Settings(mode="sliding-window", on_error="blank") == Settings(  # type: ignore[arg-type] # as a notebook gives them
        mode=Mode.SLIDING_WINDOW, on_error=OnError.BLANK
    )
