"""Scores of a weights folder on labelled cases, whole and with contrasts left out: the tables of docs/weights.md.

    python benchmarks/held_out.py DATA --case ID --case ID … [--weights W] [--without t1n --without t1n,t2w]

DATA holds cases with `{ID}-seg.nii.gz`. A case without tumor has no scores: its millilitres of false tumor are printed.
"""

import argparse
from pathlib import Path

import numpy as np

from brats_infer import segment
from brats_infer.evaluate.label_maps import read_reference
from brats_infer.evaluate.lesionwise import lesionwise_scores
from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases
from brats_infer.network.loading import SHIPPED_WEIGHTS
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import Task, task_named
from brats_infer.train.data.labelled import references_of

COLUMNS = ("legacy_dice", "lesionwise_dice")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--case", action="append", default=[], help="its ID; default: all")
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--task", default="gli")
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.COARSE_TO_FINE)
    parser.add_argument("--without", action="append", default=[], help="contrasts to leave out, such as t1n,t2w")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    task, cases = task_named(given.task), find_cases(given.data, given.task)
    references = references_of(given.data, cases)
    chosen = [case for case in cases if case.id in references and (not given.case or case.id in given.case)]
    for without in ["", *given.without]:
        absent = [name for name in without.split(",") if name]
        print(f"\n{len(chosen)} cases{' without ' + ' and '.join(absent) if absent else ''}")
        rows = [scores_of(case, references[case.id], task, absent, given) for case in chosen]
        kept = np.array([row for row in rows if row is not None])
        if len(kept):
            print(f"{'mean':24} {shown(kept.mean(0))}")


def scores_of(
    case: Case, reference: Path, task: Task, absent: list[str], given: argparse.Namespace
) -> list[float] | None:
    """Dice of each region, then lesion-wise Dice of each; None for a case without tumor."""
    images = {name: path for name, path in case.paths.items() if name not in absent}
    found = segment(
        images, task=task.name, weights=given.weights, device=given.device, settings=Settings(mode=given.mode)
    )
    true = read_reference(reference, task).data
    if not true.any():
        print(f"{case.id:24} no tumor; found {sum(found.volumes[str(r.name)] for r in task.regions[:1]):.2f} ml")
        return None
    spacing = found.geometry.spacing
    scores = lesionwise_scores(found.labels, true, task, spacing)
    row = [float(getattr(scores[region.name], column)) for column in COLUMNS for region in task.regions]
    expected = ", ".join("–" if dice is None else f"{dice:.2f}" for dice in found.expected_dice.values())
    print(f"{case.id:24} {shown(np.array(row))}  expected {expected}", flush=True)
    return row


def shown(row: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    dice, lesionwise = np.split(row, 2)
    return f"Dice {', '.join(f'{x:.3f}' for x in dice)}  lesion-wise {', '.join(f'{x:.3f}' for x in lesionwise)}"


if __name__ == "__main__":
    main()
