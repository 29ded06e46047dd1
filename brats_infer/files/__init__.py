"""Files on disk: cases, images, grids, output folders."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType


class _NoPydicomForNibabel(MetaPathFinder):
    """Nibabel imports pydicom where it is installed. That takes 0.2 s, and opens a socket through requests."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if fullname == "pydicom" and _is_loading("nibabel"):
            raise ModuleNotFoundError(fullname)


def _is_loading(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


sys.meta_path.insert(0, _NoPydicomForNibabel())
