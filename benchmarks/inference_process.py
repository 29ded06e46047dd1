"""A contender of `inference.py` in a process of its own: its memory, its imports, its threads. Both ends of it.

Started with a `Job` in JSON, the process runs it once for every line that comes in, and answers each with an `Answer`
in JSON. What libraries print goes into a log.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from inference_contenders import OURS, Answer, Contender, Job
from inference_peers import PEERS

from brats_infer.network.devices import limit_threads

END_OF_LOG = 2000  # characters


class ProcessError(Exception):
    """A process ended before it had answered; the message is the end of what it said."""


class Process:
    """This end."""

    def __init__(self, job: Job) -> None:
        self.log = job.output.with_suffix(".log")
        self.began = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, job.to_json()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        self.first_run = 0.0
        """Seconds from the start of the process to its first answer."""

    def run(self) -> Answer:
        """Once. Raises ProcessError."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
            answer = Answer(**json.loads(self.process.stdout.readline()))
        except (OSError, ValueError) as error:
            raise ProcessError(self.log.read_text(errors="replace")[-END_OF_LOG:]) from error
        self.first_run = self.first_run or time.perf_counter() - self.began
        return answer

    def end(self) -> float:
        """Lets it end; its peak of resident memory in MiB."""
        assert self.process.stdin
        self.process.stdin.close()
        return peak_of(self.process)


def run_command(command: Sequence[str | Path], log: Path) -> tuple[float, float]:
    """Seconds and peak of resident memory in MiB of a whole process. Raises ProcessError."""
    began = time.perf_counter()
    with log.open("wb") as target:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=target, stderr=target)
    peak = peak_of(process)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise ProcessError(log.read_text(errors="replace")[-END_OF_LOG:])
    return seconds, peak


def peak_of(process: subprocess.Popen[bytes]) -> float:
    """Waits for it; MiB."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss / 1024  # of KiB, on Linux


def contender_of(job: Job) -> Contender:
    """Made, its member loaded."""
    return {**OURS, **PEERS}[job.contender](job)


def main() -> None:
    """The other end."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    limit_threads()
    contender = contender_of(Job.from_json(sys.argv[1]))
    for _ in sys.stdin:
        answer = contender.run()
        held = max(map(torch.cuda.max_memory_reserved, range(torch.cuda.device_count())), default=0)
        answer = replace(answer, gpu_mib=held / 2**20)
        print(json.dumps(asdict(answer)), file=answers, flush=True)


if __name__ == "__main__":
    main()
