"""The connection to a Ray cluster: an existing one, or one on this machine that no other user can reach."""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from brats_infer.errors import UsageError
from brats_infer.system.signals import held

log = logging.getLogger(__name__)

LOCAL = "local"
OBJECT_STORE = 80 * 2**20  # bytes, the smallest that Ray accepts: no large object travels


@contextmanager
def joined(address: str) -> Iterator[list[dict[str, Any]]]:
    """Joins the cluster at HOST:PORT, or starts one ("local"), within the `with` block. Yields `ray.nodes()`.

    Raises UsageError if there is no such cluster. Without --debug, Ray's output is dropped.
    """
    debug = log.isEnabledFor(logging.DEBUG)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options: dict[str, Any] = {"address": address, "log_to_driver": debug, "configure_logging": debug}
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(sys.stderr if debug else stack.enter_context(Path(os.devnull).open("w"))))
        if address == LOCAL:
            options |= _local_options(stack)
        else:
            _knock(address)
        with held():
            import ray
        if not debug:
            logging.getLogger("ray").setLevel(logging.ERROR)
        stack.callback(_leave)
        try:
            with held():
                ray.init(**options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise _no_cluster(address, error) from error
        with held():
            nodes = ray.nodes()
        yield nodes


def _leave() -> None:
    import ray

    with held():  # Ray restores the default signal handlers, not ours
        ray.shutdown()


def _local_options(stack: ExitStack) -> dict[str, Any]:
    """Options of a cluster that only this run can reach, and that leaves no file behind."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # nodes listen on the loopback interface alone
    os.environ.setdefault("RAY_worker_niceness", "0")  # as in a plain run; Ray's default, 15, starves on a busy machine
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes a token into the home folder
    parent = os.environ.get("RAY_TMPDIR", "/tmp")  # noqa: S108 - Ray's default: its sockets need a short path
    try:
        folder = stack.enter_context(TemporaryDirectory(prefix="brats-opt-", dir=parent, ignore_cleanup_errors=True))
    except OSError as error:
        raise UsageError(f"{parent}: Ray cannot write there ({error.strerror}): set RAY_TMPDIR to a folder") from error
    return {"include_dashboard": False, "object_store_memory": OBJECT_STORE, "_temp_dir": folder}


def _knock(address: str) -> None:
    """Raises UsageError where no server answers: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UsageError:
    reason = str(error).strip().partition("\n")[0]
    return UsageError(f"--ray {address}: no cluster ({reason}): give {LOCAL} or HOST:PORT of ray start --head")
