"""A Ray cluster on this machine that looks like several, and its workers, to be killed."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from ray.cluster_utils import Cluster

Found = TypeVar("Found")


@dataclass(frozen=True)
class RayCluster:
    """Where it answers, and the process IDs of its nodes."""

    address: str
    nodes: frozenset[int]

    def busy_workers(self) -> list[int]:
        """Process IDs of those with a case in their hands: Ray names a process after what it does."""
        return [pid for pid, parent, name in processes() if parent in self.nodes and name == "ray::Worker.segment"]


@contextmanager
def cluster_of(nodes: int) -> Iterator[RayCluster]:
    """That many nodes of one processor each. Ray changes how a process ends: it gets one of its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_host, args=(theirs, nodes))
    process.start()
    theirs.close()
    try:
        assert ours.poll(120)
        yield RayCluster(*ours.recv())
    finally:
        ours.close()
        process.join()


def _host(connection: Connection, nodes: int) -> None:
    """Keeps a cluster until the other end of the connection is closed."""
    with TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:  # sockets: a short name
        os.environ |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        cluster = Cluster(shutdown_at_exit=False)
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
            found = [process for node in cluster.list_all_nodes() for process in node.all_processes["raylet"]]
            connection.send((cluster.address, frozenset(entry.process.pid for entry in found)))
            with suppress(EOFError):
                connection.recv()
        finally:
            cluster.shutdown()


def in_a_process(function: Callable[..., Found], *args: object) -> Found:
    """What it returns or raises, called in a new process: Ray changes how the one that uses it ends."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


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
