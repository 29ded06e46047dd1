"""What Ray keeps on every GPU, or every few cores, for `brats_infer.cluster.foreman`: a process that segments cases."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from brats_infer.errors import OutputError, UsageError
from brats_infer.files.cases import Case
from brats_infer.network.devices import pick_device
from brats_infer.run.case import finish_case, predict_case, read_case
from brats_infer.run.events import Watcher
from brats_infer.run.folder import AT_THE_GPU, SHORT_TURN, Plan, load_ensembles
from brats_infer.run.results import CaseResult
from model.atomic import hold_mark

NOBODY = Watcher()


class Worker:
    """In a process of its own, perhaps on another machine: the weights of one device, and the cases it is given.

    Ray calls it from several threads, so reading and writing overlap with the network of another case.
    """

    def __init__(self, plan: Plan, mark: Path, device: str) -> None:
        self.plan, self.mark, self.device = plan, mark, device
        self.computer = ThreadPoolExecutor(1 if device == "cpu" else AT_THE_GPU, "device")

    def prepare(self) -> None:
        """Before any case. Raises UsageError, WeightsError or OutputError."""
        host = socket.gethostname()
        try:
            self.holding = hold_mark(self.mark)
        except FileNotFoundError as error:
            reason = f"{self.plan.output}: is another folder on {host}: name one that all machines share"
            raise OutputError(reason) from error
        if not self.plan.input.is_dir():
            raise UsageError(f"{self.plan.input}: is not there on {host}: name a folder that all machines share")
        self.ensembles = load_ensembles(self.plan, pick_device(self.device))
        if self.device != "cpu":
            sys.setswitchinterval(SHORT_TURN)

    def segment(self, case: Case) -> CaseResult:
        """As in a plain run. Raises OutputError."""
        output, settings = self.plan.output, self.plan.settings
        # nothing here holds on to what was read
        computing = self.computer.submit(
            predict_case,
            read_case(case, self.ensembles, output, settings, NOBODY),
            self.ensembles,
            output,
            settings,
            NOBODY,
        )
        return finish_case(computing.result(), output, settings, NOBODY)
