"""The command line: its commands, and the exit code of every ending."""

import logging
import os
import sys
import traceback
from types import ModuleType

import click

from brats_infer import __version__
from brats_infer.commands.options.click_options import DefaultGroup
from brats_infer.errors import BratsOptError, ExitCode, Terminated, printable
from brats_infer.system.console import Voice, speak_as
from brats_infer.system.signals import INTERRUPTED, TERMINATED, ignore

INTERNAL_ERROR = 1
STDOUT = "standard output: cannot be written ({}): send it elsewhere"

log = logging.getLogger("brats_infer")


@click.group(
    cls=DefaultGroup,
    modules={
        name: f"brats_infer.commands.{name}"
        for name in ("infer", "check", "evaluate", "report", "prepare", "restore", "train", "experiment", "tune")
    }
    | {"import": "brats_infer.commands.import_", "train-brain": "brats_infer.commands.train_brain"}
    | {name: f"brats_infer.commands.{name}" for name in ("phantom", "info")},
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
def cli() -> None:
    """Brain tumor segmentation for the BraTS challenges. Without a command: infer.

    \b
    Exit codes: 0 all written; 1 a fault of this program; 2 wrong usage; 3 some cases failed; 4 no cases;
    5 weights; 6 output; 130 interrupted; 143 terminated.

    \b
    To complete commands and options with the Tab key, in ~/.bashrc (for zsh or fish replace bash):
      eval "$(_BRATS_OPT_COMPLETE=bash_source brats-opt)"
    """
    speak_as(Voice.PLAIN)


def main() -> None:
    """Runs the command line and turns every ending into a documented exit code and one line."""
    try:
        code = cli.main(prog_name="brats-opt", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__  # click takes any EOFError for the end of a user's input
        code = _fail(*_told(cause)) if isinstance(cause, EOFError) else _fail(INTERRUPTED, ExitCode.INTERRUPTED)
    except Terminated:
        code = _fail(TERMINATED, ExitCode.TERMINATED)
    except BratsOptError as error:
        log.debug("", exc_info=error)
        code = _fail(str(error), error.exit_code)
    except SystemExit as error:
        completing = "_BRATS_OPT_COMPLETE" in os.environ
        if completing or not _raised_in(error, click.core):
            raise
        # click exits when the reader of stdout has gone
        code = _fail(STDOUT.format("its reader has gone"), ExitCode.OUTPUT)
    except Exception as error:
        code = _fail(*_told(error))
    ignore()
    sys.exit(code)


def _told(error: Exception) -> tuple[str, int]:
    """(message, exit code) of an unexpected error."""
    log.debug("", exc_info=error)
    if isinstance(error, OSError) and _raised_in(error, click.utils):
        return STDOUT.format(error.strerror), ExitCode.OUTPUT
    return f"{type(error).__name__}: {error}: this is a fault of brats-opt, --debug shows where", INTERNAL_ERROR


def _raised_in(error: BaseException, module: ModuleType) -> bool:
    return traceback.extract_tb(error.__traceback__)[-1].filename == module.__file__


def _fail(message: str, code: int) -> int:
    log.error("brats-opt: %s", printable(message))
    return int(code)
