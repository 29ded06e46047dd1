"""Reads label maps and stored region probabilities."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.geometry import Geometry, geometry_of_header
from brats_infer.files.nifti import STEPS, Volume, read_verified
from brats_infer.files.unpack import header_of, read_up_to, skip_to_voxels, unpacked

LABEL_TOLERANCE = 0.05  # between a stored value and the label that it means


def read_labels(path: Path) -> tuple[NDArray[np.uint8], Geometry]:
    """Reads a label map: uint8 (X, Y, Z), and its grid. Raises CaseError as `read_label_map`."""
    found = read_label_map(path)
    return found.data, found.geometry


def read_label_map(path: Path) -> Volume:
    """Reads a label map: uint8 (X, Y, Z), with its grid and the file's oddities.

    A scale factor, which some programs store, puts 1 at 1.0000153 or 0.996. Values up to 0.05 from a whole number are
    that number. Raises CaseError if a value is no whole number from 0 to 255.
    """
    values, geometry, warnings = read_verified(path)
    labels, wrong = _whole_numbers(values)
    if wrong is not None:
        raise CaseError(
            f"{path}: holds {wrong:.6g}, but values are no labels unless they are whole numbers from 0 to 255: "
            "check that it is a label map, and export it as uint8"
        )
    return Volume(np.ascontiguousarray(labels), geometry, warnings)


def _whole_numbers(values: NDArray[Any]) -> tuple[NDArray[np.uint8], float | None]:
    """(values as uint8, the first value that is no whole number from 0 to 255, or None)."""
    with np.errstate(invalid="ignore"):  # values that do not fit fail the comparison
        if values.dtype.kind in "iu":
            labels = values.astype(np.uint8)
            good = labels == values
        else:
            labels = (values + np.float32(0.5)).astype(np.uint8)
            good = np.abs(values - labels) <= LABEL_TOLERANCE
    return labels, None if good.all() else float(values[~good][0])


def read_probabilities(path: Path) -> tuple[NDArray[np.float32], Geometry]:
    """Reads a file of `write_probabilities`: (R, X, Y, Z). Raises CaseError for any other file."""
    with unpacked(path) as stream:
        header = header_of(path, stream)
        *shape, regions = header.get_data_shape()
        in_steps = header.get_data_dtype() == np.uint8 and np.allclose(header.get_slope_inter()[0] or 0, 1 / STEPS)
        if not in_steps or len(shape) != 3 or regions < 1 or header.sizeof_hdr != 348:
            raise CaseError(f"{path}: is not as brats-opt --probabilities writes region probabilities: take those")
        header.set_data_shape(shape)
        geometry, _ = geometry_of_header(path, header)
        skip_to_voxels(path, header, stream)
        size = math.prod((*shape, regions))
        raw = read_up_to(stream, size, path.stat().st_size)
        if len(raw) < size or stream.read(1):
            raise CaseError(f"{path}: does not hold the {size} bytes that its header announces: copy it again")
    steps = np.frombuffer(raw, np.uint8).reshape((*shape, regions), order="F")
    return np.moveaxis(steps, -1, 0).astype(np.float32, order="C") / np.float32(STEPS), geometry
