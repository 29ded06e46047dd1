"""The errors of this project and their exit codes.

Messages are one line, name the file or case, and say what to do.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Documented in the README; organizers' scripts may rely on them."""

    OK = 0
    USAGE = 2
    CASES_FAILED = 3
    NO_CASES = 4
    WEIGHTS = 5
    OUTPUT = 6
    INTERRUPTED = 130
    TERMINATED = 143


OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Failed to allocate",
    "bad_alloc",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",  # cuDNN, where no workspace is left for any
)
"""Texts in RuntimeErrors of torch and OpenVINO if an allocator fails: the host's, the driver's or their own."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means too little memory, on the device or the host."""
    known = isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    return known or isinstance(error, MemoryError)


def printable(text: str) -> str:
    """One printable line: a file name or a library's text may hold newlines, terminal codes or broken UTF-8."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class BratsOptError(Exception):
    """Base of the errors that this project raises on purpose."""

    exit_code = ExitCode.USAGE

    def __str__(self) -> str:
        """One printable line."""
        return printable(super().__str__())


class UsageError(BratsOptError):
    """An argument of the command is unusable."""


class CaseError(BratsOptError):
    """One case cannot be segmented; the others can."""

    exit_code = ExitCode.CASES_FAILED


class NoCasesError(BratsOptError):
    """The input folder holds no case."""

    exit_code = ExitCode.NO_CASES


class WeightsError(BratsOptError):
    """The weights are missing, damaged, or not those of the manifest."""

    exit_code = ExitCode.WEIGHTS


class OutputError(BratsOptError):
    """The output folder cannot be written."""

    exit_code = ExitCode.OUTPUT


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, no `except Exception` may swallow it."""
