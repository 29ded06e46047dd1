"""Small case folders and image files on disk, whole or damaged on purpose; written by nibabel, not by the project."""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

NAMES_2023 = {"t1n": "-t1n", "t1c": "-t1c", "t2w": "-t2w", "t2f": "-t2f"}
NAMES_2021 = {"t1n": "_t1", "t1c": "_t1ce", "t2w": "_t2", "t2f": "_flair"}
SHAPE = (12, 14, 10)
SRI24 = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])


def head(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> NDArray[np.int16]:
    """A noisy ellipsoid with negative voxels too, off the middle, in a background of 0."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = ((at - 0.1) ** 2).sum(axis=0) < 0.6
    values = rng.integers(1, 900, shape) * rng.choice((1, 1, 1, -1), shape)
    return np.where(inside, values, 0).astype(np.int16)


def write_image(
    path: Path, data: ArrayLike, affine: ArrayLike = SRI24, kind: type[nib.Nifti1Image] = nib.Nifti1Image
) -> Path:
    """An image as the challenges' files are: sform and qform alike, both coded."""
    image = kind(np.asarray(data), np.asarray(affine))
    image.set_qform(np.asarray(affine), 1)
    image.set_sform(np.asarray(affine), 1)
    nib.save(image, path)
    return path


def write_case(
    root: Path,
    case_id: str = "BraTS-GLI-00001-000",
    *,
    names: Mapping[str, str] = NAMES_2023,
    ending: str = ".nii.gz",
    nested: bool = True,
    affine: ArrayLike = SRI24,
    image: Callable[[int], ArrayLike] = lambda seed: head(seed=seed),
) -> dict[str, Path]:
    """One case's four images, `image(0)` to `image(3)`; {modality: file}."""
    folder = root / case_id if nested else root
    folder.mkdir(parents=True, exist_ok=True)
    return {
        modality: write_image(folder / f"{case_id}{name}{ending}", image(i), affine)
        for i, (modality, name) in enumerate(names.items())
    }


def touch_case(root: Path, case_id: str, names: Mapping[str, str] = NAMES_2023) -> Path:
    """A case folder of empty files, where nothing is opened."""
    folder = root / case_id
    folder.mkdir(parents=True)
    for name in names.values():
        (folder / f"{case_id}{name}.nii.gz").touch()
    return folder


def unpacked(path: Path) -> bytearray:
    """The bytes of a .nii.gz or .nii file."""
    content = path.read_bytes()
    return bytearray(gzip.decompress(content) if path.suffix == ".gz" else content)


def repack(path: Path, content: bytes, level: int = 6) -> Path:
    path.write_bytes(gzip.compress(content, level, mtime=0) if path.suffix == ".gz" else content)
    return path


def raw_header(path: Path) -> NDArray[np.void]:
    """The 348 bytes of a NIfTI-1 header, field by field, as they stand in the file."""
    return np.frombuffer(bytes(unpacked(path)[:348]), nib.nifti1.header_dtype)[0]


def edit_header(path: Path, **fields: ArrayLike) -> Path:
    """Overwrites fields of a NIfTI-1 header, sensible or not."""
    content = unpacked(path)
    header = np.frombuffer(content, nib.nifti1.header_dtype, count=1)  # a view: writing to it changes the bytes
    for name, value in fields.items():
        header[name][0] = value
    return repack(path, bytes(content))
