"""Damaged NIfTI files from a seed: the same number gives the same file."""

import gzip
import struct
from collections.abc import Callable

import nibabel as nib
import numpy as np
from numpy.random import Generator

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8")
SIDES = (-32768, -1, 0, 1, 2, 3, 7, 255, 256, 511, 512, 513, 1290, 32767)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-3, 0.5, 352.0, 348.0, 349.5, 1e9, 3e38, -3e38, np.nan, np.inf, -np.inf)
CODES = (-1, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 511, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 4096, 32767)
TEXTS = (b"n+1", b"ni1", b"n+2", b"", b"n+1\0\0\0\0\0", b"\xff\xff\xff\xff")


def damaged(seed: int) -> tuple[str, bytes]:
    """(file name, content)."""
    rng = np.random.default_rng(seed)
    content = whole(rng)
    for _ in range(rng.integers(0, 4)):
        content = CONTENT[rng.integers(len(CONTENT))](content, rng)
    if rng.random() < 0.3:
        return f"{seed}.nii", content
    packed = packed_with(content, rng)
    for _ in range(rng.integers(0, 3) if rng.random() < 0.5 else 0):
        packed = STREAM[rng.integers(len(STREAM))](packed, rng)
    return f"{seed}.nii.gz", packed


def whole(rng: Generator) -> bytes:
    """A sound file of any version, byte order and type."""
    shape = tuple(int(n) for n in rng.integers(1, 5, 3)) + (1,) * int(rng.integers(0, 3) == 0)
    kind = (nib.Nifti1Image, nib.Nifti1Image, nib.Nifti2Image)[rng.integers(3)]
    header = kind.header_class(endianness="<>"[rng.integers(2)])
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    values = rng.integers(0, 200, shape).astype(dtype)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if rng.random() < 0.7 else rng.normal(0, 1, (4, 4))
    affine[3] = 0, 0, 0, 1
    image = kind(values, None, header, dtype=dtype)
    image.set_sform(affine, int(rng.integers(0, 5)))
    return bytes(image.to_bytes())


def header_field(content: bytes, rng: Generator) -> bytes:
    """A field of the header gets a value that is at an edge."""
    dtype = nib.nifti2.header_dtype if content[4:7] == b"n+2" else nib.nifti1.header_dtype
    if len(content) < dtype.itemsize:
        return content
    order = "<>"[rng.integers(2)]
    out = bytearray(content)
    header = np.frombuffer(out, dtype.newbyteorder(order), count=1)
    names = ("dim", "dim", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter")
    names += ("qform_code", "sform_code", "srow_x", "srow_z", "quatern_b", "qoffset_x", "magic", "sizeof_hdr")
    name = names[rng.integers(len(names))]
    field = header[name][0]
    if header.dtype[name].kind == "S":
        header[name][0] = TEXTS[rng.integers(len(TEXTS))]
    else:
        choices = SIDES if name == "dim" else NUMBERS if header.dtype[name].base.kind == "f" else CODES
        value = choices[rng.integers(len(choices))]
        if name == "dim" and rng.random() < 0.3:
            field[1:4] = rng.choice((255, 511, 512), 3)  # a gigabyte, within what is borne
        elif np.ndim(field):
            field[rng.integers(len(field))] = value
        else:
            header[name][0] = value if header.dtype[name].kind == "f" or np.isfinite(value) else 0
    return bytes(out)


def some_bytes(content: bytes, rng: Generator) -> bytes:
    """Up to eight bytes are any others."""
    out = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        if out:
            out[rng.integers(len(out))] = rng.integers(256)
    return bytes(out)


def one_bit(content: bytes, rng: Generator) -> bytes:
    out = bytearray(content)
    if out:
        out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def cut(content: bytes, rng: Generator) -> bytes:
    return content[: rng.integers(len(content) + 1)]


def longer(content: bytes, rng: Generator) -> bytes:
    """Zeros or noise behind the end, up to more than is borne."""
    count = int(rng.choice((1, 7, 512, 70_000)))
    return content + (bytes(count) if rng.random() < 0.5 else rng.bytes(count))


def repeated(content: bytes, rng: Generator) -> bytes:
    """A piece stands twice."""
    at, end = sorted(int(n) for n in rng.integers(0, len(content) + 1, 2))
    return content[:end] + content[at:]


def packed_with(content: bytes, rng: Generator) -> bytes:
    """As gzip: of any level, in one member or several, with or without the fields that a member may have."""
    at = int(rng.integers(len(content) + 1)) if rng.random() < 0.2 else 0
    members = [gzip.compress(part, int(rng.integers(0, 10)), mtime=0) for part in (content[:at], content[at:])]
    if rng.random() < 0.2:
        members[0] = with_fields(members[0], rng)
    if rng.random() < 0.01:
        members.append(gzip.compress(bytes(2**24), 9) * 16)  # 256 MiB
    return b"".join(members[0 if at else 1 :])


def with_fields(member: bytes, rng: Generator) -> bytes:
    """Extra field, name, comment and header checksum, announced or really there."""
    flags = int(rng.integers(256))
    extra = struct.pack("<H", int(rng.integers(20))) + rng.bytes(10)
    return member[:3] + bytes([flags]) + member[4:10] + extra + b"name\0comment\0" + member[10:]


Mutation = Callable[[bytes, Generator], bytes]
CONTENT: tuple[Mutation, ...] = (header_field, header_field, header_field, some_bytes, one_bit, cut, longer, repeated)
STREAM: tuple[Mutation, ...] = (some_bytes, one_bit, one_bit, cut, longer, repeated, with_fields)
