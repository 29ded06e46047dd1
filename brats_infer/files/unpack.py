"""The bytes of a NIfTI file: unpacked, its header parsed, its voxels read with bounds on memory."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import nibabel as nib
import numpy as np
from isal import igzip, igzip_lib
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.pointers import pointer_remedy

MAX_EXTENSIONS = 2**20  # bytes between header and voxels
PIECE = 2**20  # bytes
MOST_UNPACKED = 1032  # times its size: no gzip file unpacks to more
GZIP_MAGIC = b"\x1f\x8b"
ISAL_ERROR = cast(type[Exception], igzip_lib.error)  # typed as an instance in the package's stub
READ_ERRORS = (OSError, EOFError, zlib.error, ISAL_ERROR)


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if its name ends in .gz; any failure to read becomes a CaseError."""
    try:
        if path.stat().st_size == 0:
            raise CaseError(f"{path}: the file is empty: copy it again")
        with path.open("rb") as raw:
            head = raw.read(352)
            raw.seek(0)
            if _is_packed(path) != head.startswith(GZIP_MAGIC):
                raise CaseError(f"{path}: {pointer_remedy(path) or f'is {_what_it_is(head)}'}")
            if _is_packed(path):
                with igzip.open(raw, "rb") as unpacked:
                    yield cast(IO[bytes], unpacked)
            else:
                yield raw
    except (FileNotFoundError, PermissionError) as error:
        if remedy := pointer_remedy(path):
            raise CaseError(f"{path}: {remedy}") from error
        raise CaseError(f"{path}: cannot be opened ({error.strerror}): check the file and its permissions") from error
    except READ_ERRORS as error:
        raise CaseError(f"{path}: cannot be read to its end ({error}): truncated or damaged, copy it again") from error


def _is_packed(path: Path) -> bool:
    """Whether the name says that the file is compressed."""
    return path.suffix.lower() == ".gz"


def _what_it_is(head: bytes) -> str:
    """Describes a file that its name misrepresents, from its first 352 bytes, and says what to do."""
    if head.startswith(GZIP_MAGIC):
        return "gzip-compressed although its name does not say so: rename it to .nii.gz"
    if head[344:347] == b"n+1" or head[4:7] == b"n+2":
        return "not gzip-compressed although its name ends in .gz: rename it to .nii"
    if head[344:347] == b"ni1" or head[4:7] == b"ni2":
        return "one half of a pair of files: export it as one file (.nii.gz)"
    if head.lstrip()[:1] == b"<":
        return "a web page, not an image: download it again"
    return "not a NIfTI file: export it as NIfTI-1 (.nii.gz)"


@np.errstate(all="ignore")
def header_of(path: Path, stream: IO[bytes]) -> nib.Nifti1Header:
    """Parses the header from the start of the stream and leaves the stream right behind it."""
    head = stream.read(nib.Nifti1Header.sizeof_hdr)
    kind: type[nib.Nifti1Header] = nib.Nifti1Header
    if head[4:7] == b"n+2":
        kind, head = nib.Nifti2Header, head + stream.read(nib.Nifti2Header.sizeof_hdr - len(head))
    elif head[344:347] != b"n+1":
        twice = _is_packed(path) and head.startswith(GZIP_MAGIC)
        what = "gzip-compressed twice: unpack it once" if twice else _what_it_is(head)
        raise CaseError(f"{path}: {pointer_remedy(path) or f'is {what}'}")
    try:
        header = kind(head, check=False)
        header.get_data_dtype()
        header.get_data_shape()
        header.get_slope_inter()
    except (HeaderDataError, WrapStructError, ValueError, KeyError, TypeError) as error:
        raise CaseError(f"{path}: its header is damaged ({error}): export it again") from error
    return header


def skip_to_voxels(path: Path, header: nib.Nifti1Header, stream: IO[bytes]) -> None:
    """Skips from the end of the header to the first voxel. Raises CaseError."""
    begin = header.sizeof_hdr
    offset = float(header["vox_offset"]) or begin + 4.0  # unset: right behind the header
    if not begin <= offset <= begin + MAX_EXTENSIONS:
        raise CaseError(f"{path}: its header puts the voxels at byte {offset:g}: export it again")
    stream.read(int(offset) - begin)


def read_up_to(stream: IO[bytes], size: int, file_size: int) -> NDArray[np.uint8]:
    """Reads up to `size` bytes, and at most `MOST_UNPACKED` times `file_size`.

    A header may announce a gigabyte that the file lacks: memory that stays unfilled is never allocated.
    """
    raw = np.empty(min(size, MOST_UNPACKED * file_size), np.uint8)
    filled = 0
    while filled < len(raw) and (piece := stream.read(min(PIECE, len(raw) - filled))):
        raw[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)  # releases the GIL
        filled += len(piece)
    return raw[:filled]
