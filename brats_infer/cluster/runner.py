"""One cohort on many machines: Ray keeps a worker on every GPU, or every few cores; the next free one takes a case.

Only cases and their results travel. Every machine reads the input and the weights, and writes the output, under the
same paths.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from brats_infer.cluster.connection import joined
from brats_infer.cluster.foreman import Foreman
from brats_infer.cluster.marks import Mark, marked
from brats_infer.cluster.slots import find_slots
from brats_infer.cohort import Plan, Runner, load_ensembles, start_of
from brats_infer.files.cases import Case
from brats_infer.network.devices import CPU
from brats_infer.run.events import CaseResult, Events
from model.atomic import remove_leftovers

ENDING = 20  # seconds that killed workers have to end: a machine may be out of reach


def on_ray(address: str) -> Runner:
    """Runs cases on the Ray cluster at HOST:PORT, or on one of this machine that lasts as long as the run ("local")."""

    def run(cases: Sequence[Case], plan: Plan, events: Events) -> Iterator[CaseResult]:
        """Yields the results in the order in which cases end.

        Raises UsageError without such a cluster or without the device in it, WeightsError as a plain run does,
        OutputError if a machine sees another output folder, BratsOptError if every worker dies as it starts.
        """
        cases, plan = _absolute(cases, plan)
        ensembles = load_ensembles(plan, CPU)  # says what is wrong with them before any machine is asked
        start = start_of(cases, plan.device, ensembles)
        if not cases:
            events.start(start)
            return
        with ExitStack() as stack:
            mark = stack.enter_context(marked(plan.output))
            afterwards = stack.enter_context(ExitStack())
            nodes = stack.enter_context(joined(address))
            afterwards.callback(_tidy_up, plan, mark)  # a worker may go on until Ray has left
            slots = find_slots(nodes, plan.device)[: len(cases)]
            events.start(start)
            foreman = stack.enter_context(closing(Foreman(cases, plan, mark.path)))
            for result in foreman.run(slots):
                events.result(result)
                yield result

    return run


def _tidy_up(plan: Plan, mark: Mark) -> None:
    """Waits for the workers to end, and removes the files that they left half written."""
    mark.wait_for_holders(ENDING)
    for folder in (plan.output, plan.settings.probabilities):
        if folder:
            remove_leftovers(folder, elsewhere_s=0)


def _absolute(cases: Sequence[Case], plan: Plan) -> tuple[list[Case], Plan]:
    """Makes the paths absolute: workers start in other folders."""
    settings = plan.settings
    if settings.probabilities:
        settings = replace(settings, probabilities=settings.probabilities.absolute())
    folders = {name: getattr(plan, name).absolute() for name in ("input", "output", "weights")}
    return [
        replace(case, paths={name: path.absolute() for name, path in case.paths.items()}) for case in cases
    ], replace(plan, settings=settings, **folders)
