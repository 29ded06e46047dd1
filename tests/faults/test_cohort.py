"""Row 35 over many machines: a worker is killed while a cohort runs, and nothing of it is lost or done twice."""

import os
import re
import signal
from tempfile import TemporaryFile

from tests.cluster.ray_cluster import cluster_of, wait_for
from tests.faults.bench import GOOD, Bench, finish, start

LOST = "a worker has died: its cases are run again"
MORE = [f"BraTS-GLI-{i:05}-000" for i in range(2, 40)]


def test_35_killed_worker_of_a_cluster(bench: Bench) -> None:
    """Two nodes with a worker each, one of which is killed with cases in its hands."""
    for case_id in MORE:
        bench.add(case_id)
    before = bench.elsewhere()
    with (
        cluster_of(nodes=2) as cluster,
        TemporaryFile() as stderr,
        start(bench.command("--ray", cluster.address), bench.root, stderr) as process,
    ):

        def maps() -> int:
            assert process.poll() is None, "it ended too early"
            return len(list(bench.output.glob("*.nii.gz")))

        busy = wait_for(lambda: cluster.busy_workers() if maps() >= 5 else [])
        os.kill(busy[0], signal.SIGKILL)
        assert maps() < len(MORE)
        ended = finish(process, stderr)
    assert ended.code == 0, ended.stderr
    assert bench.elsewhere() == before
    assert [line for line in ended.lines if line.startswith("warning: ")] == ["warning: " + LOST]
    told = sorted(re.findall(r"^\[\d+/40\] (\S+): written", ended.stderr, re.MULTILINE))
    assert told == sorted((*GOOD, *MORE)), "each once"
    bench.assert_holds(*MORE)  # and nothing that the killed worker left half written
    assert {path.read_bytes() for path in bench.output.iterdir()} == {bench.reference}
