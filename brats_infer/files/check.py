"""Checks an output folder against the run contract, with one line for each violation."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_infer.errors import CaseError, OutputError
from brats_infer.files.cases import Case
from brats_infer.files.geometry import GEOMETRY_FIELDS, Geometry, is_same_affine
from brats_infer.files.labels import read_labels
from brats_infer.files.nifti import read_geometry, read_header
from brats_infer.files.search.find import find_cases
from brats_infer.files.search.tree import Links
from brats_infer.tasks import TASKS, Task, task_of_id

ORGANIZERS_NAME = re.compile(r".*\d{5}-\d{3}\.nii\.gz")  # required by the organizers' checks of 2023
STRUCTURE = ("sizeof_hdr", "dim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "magic", "eol_check")
ANEW = "write it with brats-opt"
UNUSED = ("extents", "regular")  # obsolete fields, which programs fill differently
KNOWN_FIELDS = {*STRUCTURE, *UNUSED, *GEOMETRY_FIELDS, "pixdim", "xyzt_units"}


@dataclass(frozen=True)
class Finding:
    """One violation, or with `warning` one oddity."""

    message: str
    warning: bool = False


def check_output(
    input_folder: Path,
    output_folder: Path,
    task_name: str = "auto",
    links: Links = Links.FOLLOW,
    channels: Sequence[str] = (),
) -> list[Finding]:
    """Compares the label maps of an output folder with the cases of the input folder, found as in the run.

    Raises UsageError or NoCasesError as `find_cases` does, and OutputError if the output folder cannot be read.
    """
    cases = find_cases(input_folder, task_name, links, channels)
    expected = {case.output_name: case for case in cases}
    try:
        present = {path.name: path for path in sorted(output_folder.iterdir())}
    except FileNotFoundError:
        present = {}
    except OSError as error:
        raise OutputError(f"{output_folder}: cannot be read ({error.strerror}): name the folder of the maps") from error
    missing = {name: case for name, case in expected.items() if name not in present}
    findings = [
        Finding(f"{output_folder / name}: is missing: {case.problem or f'run brats-opt on {case.id} again'}")
        for name, case in missing.items()
    ]
    findings += [_extra(path, missing, input_folder) for name, path in present.items() if name not in expected]
    for name, case in expected.items():
        if name in present:
            findings += check_map(present[name], case)
    return findings


def _extra(path: Path, missing: Mapping[str, Case], input_folder: Path) -> Finding:
    for name, case in missing.items():
        if path.name.startswith(case.id):
            return Finding(f"{path}: belongs to no case under this name: rename it to {name} if it is that map")
    what = "move it elsewhere" if path.is_dir() else "remove it"
    return Finding(f"{path}: belongs to no case of {input_folder}: {what}")


def check_map(path: Path, case: Case) -> Iterator[Finding]:
    """The violations and oddities of one case's label map."""
    if path.is_symlink():
        yield Finding(f"{path}: is a link, which breaks when the folder is moved: copy the file there")
    if not (ORGANIZERS_NAME.fullmatch(path.name) or task_of_id(case.id)):
        yield Finding(f"{path}: organizers may refuse a name that does not end in ddddd-ddd.nii.gz", warning=True)
    try:
        header = read_header(path)
        yield from _check_header(path, header)
        labels, geometry = read_labels(path)
    except CaseError as error:
        yield Finding(str(error))
        return
    task: Task = case.task or next(iter(TASKS.values()))
    unknown = sorted(set(np.unique(labels).tolist()) - {0, *task.labels})
    if unknown:
        yield Finding(f"{path}: holds the labels {unknown}, not only 0 and {task.labels}: map them first")
    if not labels.any():
        yield Finding(f"{path}: the label map is empty: look at the images of {case.id}", warning=True)
    yield from _check_grid(path, geometry, case)


def _check_header(path: Path, header: nib.Nifti1Header) -> Iterator[Finding]:
    """Checks the header apart from the grid: type, scale, and fields that are empty in a fresh header."""
    if header.get_data_dtype() != np.uint8:
        yield Finding(f"{path}: voxels are of type {header.get_data_dtype()}, not uint8: {ANEW}")
    if tuple(header.get_slope_inter()) not in ((None, None), (1.0, 0.0)):
        yield Finding(f"{path}: its header scales the labels: {ANEW}")
    if len(header.get_data_shape()) != 3:
        yield Finding(f"{path}: has {len(header.get_data_shape())} dimensions, not 3: {ANEW}")
    fresh = type(header)()
    left = [name for name in header if name not in KNOWN_FIELDS and not np.array_equal(header[name], fresh[name])]
    if header["vox_offset"] > fresh.sizeof_hdr + 4:
        left.append("extensions")
    if left:
        yield Finding(f"{path}: its header is not fresh ({', '.join(left)}), it may hold patient data: {ANEW}")


def _check_grid(path: Path, geometry: Geometry, case: Case) -> Iterator[Finding]:
    """Compares shape, affine, qform, sform and their codes with those of the first readable image."""
    image: Geometry | None = None
    for source in case.paths.values():
        try:
            image = read_geometry(source, len(case.channels) or 1)
            break
        except CaseError:
            continue
    if image is None:
        return
    if difference := geometry.difference(image, "the images") or geometry.offset(image, "the images"):
        yield Finding(f"{path}: {difference}: {ANEW}")
    for name in ("qform_code", "sform_code"):
        here, there = int(geometry.fields[name]), int(image.fields[name])
        if here != there:
            yield Finding(f"{path}: {name} is {here}, not {there} as in the images: {ANEW}")
    ours, theirs = geometry.qform, image.qform
    if ours is not None and theirs is not None and not is_same_affine(ours, theirs):
        yield Finding(f"{path}: its qform is not that of the images: {ANEW}")
