"""brats-opt: brain tumor segmentation for the BraTS challenges.

>>> from brats_infer import prepare, restore, segment, segment_folder
>>> segment({"t1n": "t1n.nii.gz", "t1c": …, "t2w": …, "t2f": …}, task="gli").volumes  # doctest: +SKIP
>>> segment_folder(Path("input"), Path("output"), task="gli")  # doctest: +SKIP
>>> prepare("studies", "input")  # raw scans or DICOM -> cases  # doctest: +SKIP
>>> restore("output", "input", "native", task="gli")  # label maps -> on the patient's own scans  # doctest: +SKIP
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brats_infer.api import Segmentation as Segmentation
    from brats_infer.api import segment as segment
    from brats_infer.cohort import segment_folder as segment_folder
    from brats_infer.preparation.prepare import prepare as prepare
    from brats_infer.preparation.restore import restore as restore

__all__ = ["Segmentation", "__version__", "prepare", "restore", "segment", "segment_folder"]

HOMES = {
    "segment_folder": "brats_infer.cohort",
    "segment": "brats_infer.api",
    "Segmentation": "brats_infer.api",
    "prepare": "brats_infer.preparation.prepare",
    "restore": "brats_infer.preparation.restore",
}

try:
    __version__ = version("brats-opt")
except PackageNotFoundError:  # run from a plain copy of the source
    __version__ = "0+unknown"


def _check_model() -> None:
    """Raises ImportError if another package `model` hides the package beside this package."""
    found = find_spec("model")
    ours = Path(__file__).resolve().parent.parent / "model"
    if found and found.origin and Path(found.origin).resolve().parent != ours:
        raise ImportError(
            f"brats-opt comes with a package `model`, but {found.origin} is found first: rename that, or move away"
        )


def __getattr__(name: str) -> Any:
    """Imports a name on first use: torch takes seconds to import, and `brats-opt --help` needs no torch."""
    if name in HOMES:
        _check_model()
        return getattr(import_module(HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
