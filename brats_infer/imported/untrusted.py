"""Reads the files of other programs without running code from them."""

import argparse
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from brats_infer.errors import WeightsError, printable

_DTYPES = tuple(type(np.dtype(name)) for name in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"))
ALLOWED: tuple[Any, ...] = (
    (multiarray.scalar, "numpy.core.multiarray.scalar"),  # numpy 1
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    *(*_DTYPES, np.dtype, np.ndarray, argparse.Namespace),
)
"""What a checkpoint may name beside tensors and plain values: training state holds numbers of numpy and arguments."""
DAMAGED = (OSError, RuntimeError, ValueError, EOFError, TypeError, LookupError, AttributeError, AssertionError)
"""What torch raises for a damaged file."""
_WANTED = re.compile(r"GLOBAL ([\w.]+)|(?:blocked|unsafe|forbidden) (?:module|function)?\s*([\w.]+)", re.IGNORECASE)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a file of `torch.save`, tensors on the CPU. Raises WeightsError.

    A pickle that names any function or class beyond `ALLOWED` is refused, and the message says which.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}): give a checkpoint") from error
    try:
        with torch.serialization.safe_globals(list(ALLOWED)), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = _WANTED.search(str(error))
        if not wanted:
            raise WeightsError(f"{path}: is damaged ({_reason(error)}): take the checkpoint again") from error
        name = wanted[1] or wanted[2]
        raise WeightsError(
            f"{path}: would run {name}, so it was not read: take it from its authors, or save its weights alone"
        ) from error
    except DAMAGED as error:
        raise WeightsError(f"{path}: is damaged ({_reason(error)}): take the checkpoint again") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, no checkpoint: give another file")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file with an object. Raises WeightsError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}): give the folder of a trained model") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: is no JSON ({_reason(error)}): take the folder again") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: holds no JSON object: take the folder again")
    return content


def _reason(error: Exception) -> str:
    return printable(str(error).partition("\n")[0])[:120]
