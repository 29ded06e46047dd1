"""A Ray cluster on this machine that looks like several, and its workers, to be killed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from ray.cluster_utils import Cluster

Found = TypeVar("Found")


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


def busy_workers(cluster: Cluster) -> list[int]:
    """Process IDs of those with a case in their hands: Ray names a process after what it does."""
    nodes = {process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]}
    return [pid for pid, parent, name in processes() if parent in nodes and name == "ray::Worker.segment"]


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


def wait_for(look: Callable[[], Found], seconds: float = 120) -> Found:
    """What is found at last, by looking again and again."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found
