"""Where the label-map pairs with their official scores lie, and the scores."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(os.environ.get("BRATS_OPT_SHARED", Path(__file__).parents[2].parent / "shared"))
PAIRS = SHARED / "metrics" / "pairs"
OFFICIAL = SHARED / "metrics" / "official2023.json"

needs_pairs = pytest.mark.skipif(
    not OFFICIAL.exists(), reason=f"{OFFICIAL} is absent: set BRATS_OPT_SHARED to the folder that holds metrics/"
)


def official_scores() -> dict[str, Any]:
    """{case: {challenge: {region: {column: number}}}}, or nothing where the folder is absent."""
    return dict(json.loads(OFFICIAL.read_text())) if OFFICIAL.exists() else {}
