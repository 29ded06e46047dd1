"""A worker: a process that segments cases for the foreman, on one GPU or a few cores."""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from brats_infer.cluster.marks import hold_mark
from brats_infer.cohort import Plan, load_ensembles
from brats_infer.errors import OutputError, UsageError
from brats_infer.files.cases import Case
from brats_infer.network.loading import pick_device, working_on
from brats_infer.run.case import CaseRun
from brats_infer.run.events import CaseResult


class Worker:
    """The weights on one device and the cases that it gets, in a process of its own, perhaps on another machine.

    Ray calls it from several threads, so reading and writing overlap with the network of another case.
    """

    def __init__(self, plan: Plan, mark: Path, device: str) -> None:
        self.plan, self.mark, self.device = plan, mark, device
        self.working = ExitStack()

    def prepare(self) -> None:
        """Loads the weights and checks the folders, before any case. Raises UsageError, WeightsError or OutputError."""
        host = socket.gethostname()
        try:
            self.holding = hold_mark(self.mark)
        except FileNotFoundError as error:
            reason = f"{self.plan.output}: is another folder on {host}: name one that all machines share"
            raise OutputError(reason) from error
        if not self.plan.input.is_dir():
            raise UsageError(f"{self.plan.input}: is not there on {host}: name a folder that all machines share")
        device = pick_device(self.device)
        self.shared = self.plan.shared(load_ensembles(self.plan, device))
        lanes = self.working.enter_context(working_on(device))
        self.computer = ThreadPoolExecutor(lanes.computing, "device")

    def segment(self, case: Case) -> CaseResult:
        """Segments a case as a plain run does. Raises OutputError."""
        run = CaseRun(case, self.shared)
        return run.finish(self.computer.submit(run.predict, run.read()).result())
