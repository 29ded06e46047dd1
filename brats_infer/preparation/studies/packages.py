"""The packages that only DICOM needs: imported late, so that all else works without them, and kept quiet."""

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from brats_infer.errors import UsageError


def require(package: str, purpose: str) -> None:
    """Raises UsageError, which says what to install, unless the package is there."""
    if find_spec(package) is None:
        raise UsageError(f"{purpose} needs {package}: pip install 'brats-opt[prepare]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom and highdicom: their warnings quote values, for example the patient's name.

    Their own errors over damaged values become ValueErrors.
    """
    from pydicom import config
    from pydicom.errors import BytesLengthException, InvalidDicomError

    logger = logging.getLogger("highdicom")
    level = logger.level
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        except (BytesLengthException, InvalidDicomError, struct.error):
            raise ValueError("damaged DICOM") from None
        finally:
            logger.setLevel(level)
