"""The volumes of a case for the page's viewer, as a script: a page opened from disk can load scripts only.

Contrasts are JPEG with all slices below one another: its pixels, row by row, are the voxels in NIfTI's order. Labels
are gzip, without loss. A script has 2 to 3 MB.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray
from PIL import Image

from brats_infer.tasks import Task
from model.atomic import write_atomically

QUALITY = 88
MAX_ROWS = 65000  # pixels of a JPEG
CALL = b"bratsOpt.arrive("


def write_volumes(
    path: Path,
    case_id: str,
    task: Task,
    greys: Sequence[NDArray[np.uint8]],
    overlays: Mapping[str, NDArray[np.uint8]],
    affine: NDArray[np.float64],
) -> None:
    """Writes a task's images (of `picture.grey`) and overlays {name: labels}, all (X, Y, Z) on one grid, atomically.

    A grid too long for a JPEG keeps every second voxel only, or fewer. Raises OSError.
    """
    _, y, z = greys[0].shape
    step = 1
    while (y // step + 1) * (z // step + 1) > MAX_ROWS:
        step += 1
    thin = affine @ np.diag([step, step, step, 1])
    thinned = [image[::step, ::step, ::step] for image in greys]
    content: dict[str, Any] = {
        "id": case_id,
        "shape": thinned[0].shape,
        "header": _text(_header(thinned[0].shape, thin)),
        "images": {m.name: _text(_jpeg(image)) for m, image in zip(task.modalities, thinned, strict=True)},
        "overlays": {
            name: _text(igzip.compress(labels[::step, ::step, ::step].tobytes(order="F"), 2, mtime=0))
            for name, labels in overlays.items()
        },
    }
    write_atomically(path, CALL + json.dumps(content).encode() + b")\n")


def holds_volumes(path: Path) -> bool:
    """Whether `write_volumes` wrote the file. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(len(CALL)) == CALL


def _header(shape: tuple[int, ...], affine: NDArray[np.float64]) -> bytes:
    """The 352 bytes in front of the uint8 voxels of a NIfTI file."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    header["vox_offset"], header["scl_slope"] = 352, 1
    header["cal_min"], header["cal_max"] = 1, 255
    return bytes(header.binaryblock + b"\0\0\0\0")


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    """(X, Y, Z) -> a JPEG with rows of X pixels, Y rows a slice, Z slices."""
    x, y, z = image.shape
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(2, 1, 0)).reshape(z * y, x)).save(
        stream, "JPEG", quality=QUALITY
    )
    return stream.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
