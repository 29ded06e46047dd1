"""index.html: one page that holds the report's figures, opens from disk and asks no network for anything."""

import shutil
from pathlib import Path
from typing import Any

from brats_infer.report.record import to_json
from model.atomic import write_atomically

SOURCE = Path(__file__).with_name("page")
SCRIPTS = ("start.js", "table.js", "plots.js", "viewer.js", "case.js", "main.js")
VIEWER = ("niivue.umd.js", "niivue.LICENSE")
"""Beside the page, in `viewer`: 2 MB that are loaded when the first case is opened."""


def write_page(folder: Path, content: dict[str, Any]) -> None:
    """Writes index.html and the viewer's script. Raises OSError."""
    (folder / "viewer").mkdir(exist_ok=True)
    for name in VIEWER:
        shutil.copyfile(SOURCE / name, folder / "viewer" / name)
    page = (SOURCE / "index.html").read_text(encoding="utf-8")
    parts = {
        "/*STYLE*/": (SOURCE / "style.css").read_text(encoding="utf-8"),
        "/*SCRIPT*/": "\n".join((SOURCE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "/*REPORT*/": to_json(content),  # last: what stands in a case's name is not to be replaced again
    }
    for mark, text in parts.items():
        page = page.replace(mark, text, 1)
    write_atomically(folder / "index.html", page.encode(errors="backslashreplace"))
