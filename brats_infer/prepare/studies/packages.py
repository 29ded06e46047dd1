"""The packages that only raw studies need. They are imported late, so that all else works without them."""

from importlib.util import find_spec

from brats_infer.errors import UsageError


def require(package: str, purpose: str) -> None:
    """Raises UsageError, which says what to install, unless the package is there."""
    if find_spec(package) is None:
        raise UsageError(f"{purpose} needs {package}: pip install 'brats-opt[prepare]'")
