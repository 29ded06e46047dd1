"""Made-up input folders: names mutated, files moved, doubled, renamed, linked. No image of theirs may vanish.

    python -m tests.faults.trees [--trees 5000] [--first 0]

Every image is used, or left out with a line, or its case fails by name. A folder where this does not hold is printed.
"""

import argparse
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from brats_infer.errors import NoCasesError, UsageError
from brats_infer.files.cases import Case
from brats_infer.files.search.find import find_cases, lines_of
from brats_infer.files.search.groups import Found, search
from brats_infer.files.search.names import is_label, parse_number, parse_stem, stem_of
from brats_infer.files.search.tree import Links
from brats_infer.tasks import MODALITIES, task_of_id

IDS = (
    *("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-SSA-00001-000", "BraTS2021_00495", "brats-gli-00001-000"),
    *("BraTS-MET-00001-000", "BraTS-GLI-00001-101", "BraTS-MEN-RT-0001-1", "UPENN-GBM-00001_11", "UCSF-PDGM-0004"),
    *("Patient_001_brain", "sub-01_ses-1", "sub-01", "patient7", "a b", "x..y", "größe", "BRATS_001", "t1"),
)
KINDS = (
    *(("-t1n", "-t1c", "-t2w", "-t2f"), ("_t1", "_t1ce", "_t2", "_flair"), ("_T1", "_T1GD", "_T2", "_FLAIR")),
    *(
        ("_T1w", "_ce-gd_T1w", "_T2w", "_FLAIR"),
        ("_t1", "_t1gd", "_t2", "_flair"),
        ("_0000", "_0001", "_0002", "_0003"),
    ),
    *(
        ("t1", "t1ce", "t2", "flair"),
        ("_T1_bias", "_T1c_bias", "_T2_bias", "_FLAIR_bias"),
        (".T1", ".T1c", ".T2", ".FL"),
    ),
)
ENDINGS = (".nii.gz", ".nii.gz", ".nii.gz", ".nii", ".NII.GZ", ".mha", ".hdr", ".nii.zip")
EXTRAS = (
    *("mask.nii.gz", "t1.nii.gz", "flair.nii", "T1.nii.gz", "notes.txt", "dataset.json", "scan.nii.gz", "IM0001"),
    *("._x-t1n.nii.gz", "output1.nii", "atlas_T1w.nii.gz", "x-seg.nii.gz", "BraTS-GLI-00009-000", "part2flair.nii"),
)
WORDS = ("_brain", " (1)", "-copy", "_seg", "_mask", "_n4", "x", "T1", ".bak", "_t1", "-", "2", "")


def make_tree(seed: int, root: Path) -> None:
    """The made-up folder of a number: one to five cases, then some mutations."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 5)):
        case_id, suffixes, ending = draw.choice(IDS), draw.choice(KINDS), draw.choice(ENDINGS)
        folder = root / draw.choice(("", case_id, f"{case_id}/anat", "imagesTr", f"site/{case_id}", draw.choice(IDS)))
        for suffix in (*suffixes, *draw.choice(((), ("-seg",), ("_seg",)))):
            name = f"{case_id}{suffix}{ending}"
            if draw.random() < 0.1:  # Kaggle's
                name += "/" + draw.choice(("0001_brain.nii", "a.nii.gz", name, "notes.txt"))
            touch(folder / name)
    for _ in range(draw.randint(0, 5)):
        mutate(draw, root)


def touch(path: Path) -> None:
    """An empty file, unless another mutation has put something in its way."""
    if not os.path.lexists(path) and all(each.is_dir() or not os.path.lexists(each) for each in path.parents):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def mutate(draw: random.Random, root: Path) -> None:
    """One change of a folder."""
    everything = sorted(path for path in root.rglob("*") if not path.is_symlink())
    files = [path for path in everything if path.is_file()]
    folders = [root, *(path for path in everything if path.is_dir())]
    kind = draw.choice(("rename", "move", "double", "remove", "extra", "empty", "link", "folder", "pointer", "case"))
    path, folder = draw.choice(files or [root]), draw.choice(folders)
    stem, dot, ending = path.name.partition(".nii")
    changed = path.with_name(f"{stem}{draw.choice(WORDS)}{dot}{ending}")
    if kind == "extra":
        touch(folder / draw.choice(EXTRAS))
    elif kind == "empty":
        touch(root / draw.choice(IDS) / draw.choice(("", "sub/")) / ".keep")
    elif kind == "link":
        target = draw.choice([*everything, root, root.parent / "nowhere", root.parent / "outside"])
        link = folder / draw.choice((*IDS, *EXTRAS, f"{draw.choice(IDS)}-t1c.nii.gz", "link"))
        if not os.path.lexists(link):
            link.symlink_to(target)
    elif not files:
        return
    elif kind == "remove":
        path.unlink()
    elif kind == "pointer":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "double":
        touch(changed)
        touch(folder / path.name)
    else:
        target = {"rename": changed, "move": folder / path.name, "case": path.with_name(path.name.swapcase())}
        new = target.get(kind, folder / path.stem / path.name)
        if not os.path.lexists(new) and not (new.parent.exists() and not new.parent.is_dir()):
            new.parent.mkdir(parents=True, exist_ok=True)
            path.rename(new)


def vanished(root: Path, found: Found) -> list[Path]:
    """The images, and the links to folders, that are neither used nor told."""
    used = [path for case in found.cases for path in case.paths.values()]
    real = {os.path.realpath(path) for path in (*used, *found.left_out)}
    lost = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in (*files, *(name for name in below if Path(folder, name).is_symlink())):
            path = Path(folder, name)
            is_image = stem_of(name) is not None and not name.startswith(".")
            inside = list(path.iterdir()) if path.is_dir() else [path]
            is_image = is_image or any(stem_of(each.name) is not None for each in inside)
            is_known = any(os.path.realpath(each) in real for each in inside)
            if is_image and not is_known and not is_told(path, root, found):
                lost.append(path)
    return lost


def is_told(path: Path, root: Path, found: Found) -> bool:
    """Whether an image is a label map by its name, or left out with a line, or belongs to a case that fails by name."""
    above = [each for each in (path, *path.parents) if each != root and each.is_relative_to(root)]
    if any(is_label(stem_of(each.name) or "") for each in above) or any(each in found.left_out for each in above):
        return True
    return any(fails(case, each) for case in found.cases if case.problem for each in above)


def fails(case: Case, path: Path) -> bool:
    """Whether the problem of a case says that it concerns a file or folder."""
    problem, stem = str(case.problem), stem_of(path.name) or ""
    name, number = parse_stem(stem), parse_number(stem)
    own = {name.case_id} if name else set()
    own |= {number[0]} if number else set()
    whole = problem.startswith((f"{path}: ", f"{path.parent}: holds ")) or path.name == case.id
    return whole or case.id in own or path.name in problem or (str(path.parent) in problem and " more" in problem)


def check(root: Path, links: Links) -> str:
    """How `find_cases` ends. Raises AssertionError with the path of an image that vanishes, and for a wrong case."""
    found = search(root, links)
    if links is Links.FOLLOW or not any(path.is_symlink() for path in root.rglob("*")):
        assert not (lost := vanished(root, found)), lost
    told = sum(int(line.split()[1]) if " are left out (" in line else 1 for line in lines_of(Found([], found.left_out)))
    assert told == len(found.left_out), found.left_out
    names = [case.output_name.lower() for case in found.cases if not case.problem]
    assert len(set(names)) == len(names), names
    for case in found.cases:
        if not case.problem:
            task = task_of_id(case.id)
            assert tuple(case.paths) == tuple(each.name for each in (task.modalities if task else MODALITIES)), case
            real = {os.path.realpath(path) for path in case.paths.values()}
            assert len(real) == len(case.paths) or has_links(case), case
            inside = (Path(os.path.realpath(path)).is_relative_to(root) for path in case.paths.values())
            assert links is Links.FOLLOW or all(inside), case
    try:
        cases = find_cases(root, "gli", links)
    except (NoCasesError, UsageError) as error:
        return type(error).__name__
    return "sound" if not any(case.problem for case in cases) else "some fail"


def has_links(case: Case) -> bool:
    return any(path.is_symlink() for path in case.paths.values())


def hunt(first: int, count: int, root: Path) -> Counter[str]:
    """How often each ending came for the trees of `count` numbers. Leaves the folder of the first wrong one."""
    endings: Counter[str] = Counter()
    (root / "outside").mkdir(parents=True)
    touch(root / "outside" / "BraTS-GLI-00077-000-t1n.nii.gz")
    logging.disable(logging.WARNING)
    for seed in range(first, first + count):
        folder = root / str(seed)
        folder.mkdir()
        make_tree(seed, folder)
        for links in Links:
            try:
                endings[check(folder, links)] += 1
            except Exception as error:
                raise AssertionError(f"tree {seed} in {folder}, {links}: {error}") from error
        shutil.rmtree(folder)
    logging.disable(logging.NOTSET)
    return endings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    for kind, count in hunt(given.first, given.trees, Path(tempfile.mkdtemp(prefix="trees-")) / "t").most_common():
        sys.stdout.write(f"{count:7} {kind}\n")


if __name__ == "__main__":
    main()
