"""A search by Optuna that is kept on disk: it can be stopped and goes on, and is never mixed with another."""

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
    """Maximises the objective until `out/study.db` holds so many trials, finished or pruned.

    `identity` says what is searched on; `first` is tried before all others. A trial worse than the median of the others
    at the same step is pruned where the objective reports. Raises UsageError without Optuna, for a study of something
    else and where every trial was pruned; OutputError for a folder that cannot be written.
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
    if first and not study.get_trials(deepcopy=False, states=waiting):  # nor where the first one was stopped
        study.enqueue_trial(dict(first))
    done = len(study.get_trials(deepcopy=False, states=ended))
    study.sampler = optuna.samplers.TPESampler(seed=seed + done)  # one that goes on must not draw the same again
    study.optimize(objective, n_trials=max(0, trials - done))
    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        raise UsageError(f"{out / STUDY}: no trial was finished: give more --trials")
    return study
