"""What all contenders of `inference.py` get: a folder of cases, and a weights folder with one member."""

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import torch
from inference_contenders import TASK
from inference_widened import widened

from brats_infer.errors import BratsOptError
from brats_infer.files.cases import Case
from brats_infer.files.nifti import read_geometry
from brats_infer.files.search.find import find_cases
from brats_infer.image.crop import CANONICAL_AXES
from brats_infer.image.normalise import Normalisation
from model.checkpoint import load_member, read_manifest, save_weights, write_manifest
from model.config import Member

REPOSITORY = Path(__file__).parents[1]
REAL = REPOSITORY.parent / "shared" / "cases" / "gli" / "images"
SEED = 0


def sample_case(asked: Path | None, folder: Path) -> Case:
    """The case of a folder, else the first real one beside the project, else a phantom that is made for it."""
    source = asked or REAL
    if not source.is_dir() and not asked:
        source = folder / "phantom"
        options = ("--task", TASK.name, "--cases", "1", "--anatomy", "ellipsoid", "--out", source)
        subprocess.run([sys.executable, REPOSITORY / "entrypoint.py", "phantom", *options], check=True, stdout=2)
    try:
        case = find_cases(source, TASK.name)[0]
    except BratsOptError as error:
        raise SystemExit(str(error)) from error
    if case.problem:
        raise SystemExit(case.problem)
    return case


def copy_case(case: Case, count: int, folder: Path) -> None:
    """As so many cases of other IDs; copies, as links out of an input folder are refused."""
    for number in range(count):
        case_id = f"BraTS-GLI-{number:05d}-000"
        (folder / case_id).mkdir(parents=True)
        for modality, path in case.paths.items():
            ending = ".nii.gz" if path.suffix == ".gz" else ".nii"
            shutil.copyfile(path, folder / case_id / f"{case_id}-{modality}{ending}")


def weights_of(given: argparse.Namespace, folder: Path) -> Member:
    """Makes the weights folder: a member of an existing one, with its manifest's entry, perhaps widened."""
    folder.mkdir()
    source = given.member
    entries = [member for member in read_manifest(source.parent) if member.file == source.name]
    if not entries:
        raise SystemExit(f"{source}: is not in the manifest of its folder")
    member = replace(entries[0], task=TASK.name)
    for name in (member.file, member.histogram_file):
        if (source.parent / name).exists():
            shutil.copyfile(source.parent / name, folder / name)
    if given.channels:
        member = _widened(member, tuple(int(c) for c in given.channels.split(",")), folder)
    if given.window:
        member = replace(member, window=(given.window,) * 3)
    if not member.config.fits(member.window):
        raise SystemExit(f"--window {member.window[0]}: choose a larger multiple of {member.config.multiple}")
    write_manifest(folder, [member])
    return member


def _widened(member: Member, channels: tuple[int, ...], folder: Path) -> Member:
    torch.manual_seed(SEED)
    try:
        network = widened(load_member(folder, member), channels)
    except ValueError as error:
        raise SystemExit(f"--channels: {error}") from error
    file = f"widened-{member.file}"
    return replace(member, file=file, sha256=save_weights(folder / file, network), config=network.config)


def refuse_for_peers(member: Member, case: Case) -> None:
    """Ends where peers, as they are set up here, would compute something else than ours."""
    if member.normalisation != Normalisation.ZSCORE or member.config.spacing != 1:
        raise SystemExit(f"{member.file}: peers take z-scores on a grid of 1 mm: give --peers '' or another --member")
    geometry = read_geometry(next(iter(case.paths.values())))
    if nib.aff2axcodes(geometry.affine) != CANONICAL_AXES or any(abs(mm - 1) > 1e-3 for mm in geometry.spacing):
        raise SystemExit(f"{case.id}: peers take the challenges' grid: give --peers '' or another --case")
