"""`brats-opt tune losses`: searches the weights of a loss's terms by short trainings (paper 2.3)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brats_infer.errors import UsageError
from brats_infer.network.loading import pick_device
from brats_infer.tasks import task_named
from brats_infer.train.choices import merged_options
from brats_infer.train.data.material import CACHE, Material
from brats_infer.train.data.splits import folds_of
from brats_infer.train.loop import LossIsNoNumberError, train
from brats_infer.train.run import only_run_in, prepare
from brats_infer.train.step.losses import TERMS
from brats_infer.train.tune.study import search

if TYPE_CHECKING:
    import optuna

WEIGHTS = (1e-4, 1e2)


def tune_losses(
    given: Mapping[str, Any], *, terms: Sequence[str], task: str, data: Path, out: Path, trials: int, device: str
) -> dict[str, Any]:
    """Searches the weights of terms for the best validation. Every trial is a run in `out/trial-N`.

    The first term keeps the weight 1, because Adam reacts to ratios only. Returns {"score", "trials", "loss": the
    value of --loss}. Raises UsageError for unknown terms, and if no case is held out.
    """
    if len(terms) < 2 or not set(terms) <= set(TERMS) or len(set(terms)) < len(terms):
        raise UsageError(f"--terms {','.join(terms)}: choose two or more of {', '.join(TERMS)}")
    options = merged_options(given)
    folds = list(folds_of(options, task, data))
    if len(folds) != 1 or not folds[0].hold_out:
        raise UsageError("tune losses: trials are compared on held-out cases: give --folds with --fold, or --hold-out")
    config, split = prepare(options, folds[0], task, Material(data, out / CACHE), None)

    def objective(trial: "optuna.Trial") -> float:
        """The score of the best validation of one training."""
        import optuna

        def ask(entry: dict[str, Any]) -> None:
            trial.report(entry["score"], entry["step"])
            if entry["step"] < config.options.steps and trial.should_prune():
                raise optuna.TrialPruned

        weights = [1.0, *(trial.suggest_float(term, *WEIGHTS, log=True) for term in terms[1:])]
        loss = _spelled(terms, weights)
        folder = out / f"trial-{trial.number}"
        changed = config.with_options(loss=loss)
        try:
            best = train(changed, split, task_named(task), folder, pick_device(device), on_validation=ask)
        except LossIsNoNumberError as error:
            raise optuna.TrialPruned(str(error)) from error
        return float(best["score"])

    identity = {
        "search": "losses",
        "task": task,
        "terms": list(terms),
        "options": options.model_dump(mode="json"),
        "training": [case.id for case in split.training],
    }
    with only_run_in(out):
        study = search(objective, out, identity, trials, options.seed)
    loss = _spelled(terms, [1.0, *(study.best_params[term] for term in terms[1:])])
    return {"score": study.best_value, "trials": len(study.trials), "loss": loss}


def _spelled(terms: Sequence[str], weights: Sequence[float]) -> str:
    return ",".join(f"{term}={weight:.6g}" for term, weight in zip(terms, weights, strict=True))
