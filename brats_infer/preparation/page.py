"""A page over the pictures and figures of prepared studies."""

import html
from collections.abc import Sequence
from pathlib import Path

from brats_infer.preparation.outcome import Outcome
from brats_infer.preparation.record import Record, read_record
from model.atomic import write_atomically

PAGE = "index.html"


def write_page(out: Path, outcomes: Sequence[Outcome]) -> None:
    """`OUT/index.html`: the picture and the figures of each case, failures first."""
    parts = []
    for outcome in sorted(outcomes, key=lambda each: (each.problem is None, each.name)):
        name = html.escape(outcome.name)
        if outcome.problem:
            parts.append(f"<h2>{name}</h2><p class=problem>{html.escape(outcome.problem)}</p>")
            continue
        record = read_record(out / outcome.name)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in record.notes)
        parts.append(
            f"<h2>{name}</h2><p>Brain {record.brain_ml:.0f} ml; atlas {html.escape(record.atlas)}.</p>"
            f"<img src='{name}/prepare.png' alt='contrasts, brain mask, checkerboards'>{_table(record)}<ul>{notes}</ul>"
        )
    failed = sum(outcome.problem is not None for outcome in outcomes)
    style = "body{background:#111;color:#ddd;font:15px sans-serif;margin:2em}img{max-width:100%}.problem{color:#ff8a70}"
    style += "td,th{padding:2px 14px 2px 0;text-align:left}"
    title = f"{len(outcomes) - failed} studies prepared, {failed} failed"
    page = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style><h1>{title}</h1>"
    write_atomically(out / PAGE, (page + "".join(parts)).encode())


def _table(record: Record) -> str:
    rows = ["<tr><th>contrast<th>from<th>voxels<th>mm<th>registered to<th>directions differ by<th>mutual information"]
    for contrast, scan in record.contrasts.items():
        size, spacing = "x".join(map(str, scan.size)), " x ".join(f"{mm:.2f}" for mm in scan.spacing)
        found = scan.registration
        quality = (
            f"<td>{found.to}<td>{found.disagreement_mm:.2f} mm<td>{found.information_before:.2f} → "
            f"{found.information:.2f}"
            if found
            else "<td>—<td>—<td>—"
        )
        rows.append(f"<tr><td>{contrast}<td>{html.escape(scan.source)}<td>{size}<td>{spacing}{quality}")
    return f"<table>{''.join(rows)}</table>"
