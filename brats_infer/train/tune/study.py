"""An Optuna search that is stored on disk: it can stop and resume, and does not mix with another search."""

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_infer.errors import OutputError, UsageError

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"


def search(
    objective: "Callable[[optuna.Trial], float]",
    out: Path,
    identity: Mapping[str, Any],
    trials: int,
    seed: int,
    first: Mapping[str, float] | None = None,
) -> "optuna.Study":
    """Maximises the objective until `out/study.db` holds that many trials, finished or pruned.

    `identity` names the data and options of the search; `first` is tried before all other values. If the objective
    reports steps, a trial below the median of the others at a step is pruned. Raises UsageError without Optuna, for a
    study of another identity, and if every trial was pruned; OutputError for a folder that cannot be written.
    """
    if not find_spec("optuna"):
        raise UsageError("tune: needs Optuna: install brats-opt[train]")
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return _search(objective, out, identity, trials, seed, first or {})
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).partition("\n")[0]
        raise OutputError(f"{out / STUDY}: cannot be used ({reason}): check the disk, or remove the file") from error


def _search(
    objective: "Callable[[optuna.Trial], float]",
    out: Path,
    identity: Mapping[str, Any],
    trials: int,
    seed: int,
    first: Mapping[str, float],
) -> "optuna.Study":
    """As `search`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}): choose another --out") from error
    study = optuna.create_study(
        storage=f"sqlite:///{(out / STUDY).resolve()}",
        study_name="tune",
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    wanted = json.loads(json.dumps(identity))
    if study.user_attrs.get("identity", wanted) != wanted:
        raise UsageError(f"{out / STUDY}: searches on other cases or options: choose another --out")
    study.set_user_attr("identity", wanted)
    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    waiting = (*ended, optuna.trial.TrialState.WAITING)
    if first and not study.get_trials(deepcopy=False, states=waiting):  # also if the first trial was stopped
        study.enqueue_trial(dict(first))
    done = len(study.get_trials(deepcopy=False, states=ended))
    study.sampler = optuna.samplers.TPESampler(seed=seed + done)  # a resumed search must not repeat its draws
    study.optimize(objective, n_trials=max(0, trials - done))
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        raise UsageError(f"{out / STUDY}: no trial was finished: give more --trials")
    return study
