"""index.html: one page with the report's figures. It opens from disk and needs no network."""

import shutil
from pathlib import Path
from typing import Any

from brats_infer.report.record import to_json
from model.atomic import write_atomically

SOURCE = Path(__file__).with_name("page")
SCRIPTS = ("start.js", "table.js", "plots.js", "viewer.js", "case.js", "main.js")
VIEWER = ("niivue.umd.js", "niivue.LICENSE")
"""Copied into the folder `viewer`: 2 MB that the page loads when the first case is opened."""


def write_page(folder: Path, content: dict[str, Any]) -> None:
    """Writes index.html and the viewer's script. Raises OSError."""
    (folder / "viewer").mkdir(exist_ok=True)
    for name in VIEWER:
        shutil.copyfile(SOURCE / name, folder / "viewer" / name)
    page = (SOURCE / "index.html").read_text(encoding="utf-8")
    parts = {
        "/*STYLE*/": (SOURCE / "style.css").read_text(encoding="utf-8"),
        "/*SCRIPT*/": "\n".join((SOURCE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "/*REPORT*/": to_json(content),  # last, so that no mark in a case's name is replaced
    }
    for mark, text in parts.items():
        page = page.replace(mark, text, 1)
    write_atomically(folder / "index.html", page.encode(errors="backslashreplace"))
