"""brats-opt: brain tumor segmentation for the BraTS challenges.

>>> from brats_infer import segment
>>> segment(Path("input"), Path("output"), task="gli")  # doctest: +SKIP
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brats_infer.pipeline import segment as segment

__all__ = ["__version__", "segment"]

try:
    __version__ = version("brats-opt")
except PackageNotFoundError:  # run from a plain copy of the source
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """`segment` on first use: importing torch takes seconds, which `brats-opt --help` should not."""
    if name == "segment":
        from brats_infer.pipeline import segment

        return segment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
