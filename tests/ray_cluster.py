"""A Ray cluster on this machine that looks like several, and its workers, to be killed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ray.cluster_utils import Cluster


@contextmanager
def cluster_of(nodes: int) -> Iterator[Cluster]:
    """That many nodes of one processor each."""
    environment = pytest.MonkeyPatch()
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:  # sockets: a short name
        environment.setenv("RAY_TMPDIR", folder)
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_worker_niceness", "0")
        cluster = Cluster(shutdown_at_exit=False)
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
            yield cluster
        finally:
            cluster.shutdown()
            environment.undo()


def workers_of(cluster: Cluster) -> list[int]:
    """Their process IDs; a worker is known by its name, and as a child of a node of this cluster."""
    nodes = {process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]}
    return [pid for pid, parent, name in processes() if parent in nodes and name == "ray::Worker"]


def processes() -> Iterator[tuple[int, int, str]]:
    """(pid, parent's pid, name) of every process that is no zombie."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            name = (folder / "cmdline").read_bytes().rstrip(b"\0").partition(b"\0")[0].decode().strip()
        except OSError:
            continue
        if state != "Z":
            yield int(folder.name), int(parent), name


def wait_until(condition: object, seconds: float = 120) -> None:
    """Polls a function until it says yes."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)
