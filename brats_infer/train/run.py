"""`brats-opt train`: from options to a run's folder, and with --publish to a member of a weights folder."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from brats_infer.errors import OutputError, UsageError, is_out_of_memory
from brats_infer.image.normalise import Normalisation
from brats_infer.network.devices import limit_threads
from brats_infer.network.loading import pick_device
from brats_infer.tasks import MODALITIES, Task, task_named
from brats_infer.train.checkpoint import best_network
from brats_infer.train.choices import Freeze, Optimizer, Targets, TrainOptions
from brats_infer.train.data.dataset import Split
from brats_infer.train.data.material import CACHE, Material, load_cases
from brats_infer.train.data.splits import Fold, folds_of
from brats_infer.train.distributed import workers_of
from brats_infer.train.loop import steps_of_epoch, train
from brats_infer.train.monitor.overlays import draw_overlays
from brats_infer.train.monitor.pace import silent, teller
from brats_infer.train.publish import open_members, publish
from brats_infer.train.recipes import Recipe, read_recipe
from brats_infer.train.run_config import TrainConfig
from brats_infer.train.step.losses import loss_weights
from brats_infer.train.transfer import Initial, new_regions, options_with, read_initial
from model.atomic import alone_in, remove_leftovers
from model.config import UNetConfig


def run(
    given: Mapping[str, Any],
    *,
    recipe: str | None,
    task: str | None,
    data: Path,
    out: Path,
    init: Path | None,
    device: str,
    publish_to: Path | None,
    trained_on: str,
    licence: str,
    cache: Path | None = None,
    phantoms: Path | None = None,
) -> dict[str, Any]:
    """Trains and returns the entry of the best validation, or of several folds {"fold-0": entry}.

    `given` are the options of the command line; they win over the recipe. Raises UsageError for settings that cannot
    work and for a folder that another run writes to, WeightsError for damaged weights in `init` or `publish_to`, and
    the errors of `load_split`, `train` and `publish`.
    """
    chosen = _recipe(recipe, init)
    task = task or chosen.task
    if not task:
        raise UsageError("--task: is missing: give it, or a --recipe that names one")
    initial = read_initial(init) if init else None
    options = options_with(initial, chosen.options, given)
    material = Material(data, cache or out / CACHE, phantoms)
    if publish_to:
        open_members(publish_to)
    results = {}
    limit_threads()
    on = pick_device(device)
    with workers_of(on) as workers:
        for fold in folds_of(options, task, data):
            folder = fold.folder(out)
            config, split = prepare(options, fold, task, material, initial)
            with only_run_in(folder) if workers.first else nullcontext():
                tell = teller(config, split) if workers.first else silent
                best = train(config, split, task_named(task), folder, on, initial, tell, workers, tell)
                if workers.first and split.validation:
                    network = best_network(folder, config.network)
                    draw_overlays(folder, network, split.validation[0], task_named(task), on)
                if publish_to and workers.first:
                    publish(publish_to, folder, task, config, split, best, trained_on, licence)
            results[folder.name] = best
    return results if len(results) > 1 else next(iter(results.values()))


def _recipe(name: str | None, init: Path | None) -> Recipe:
    """The recipe of that name, an empty one without a name. Raises UsageError for a recipe that cannot be trained."""
    if name is None:
        return Recipe()
    recipe = read_recipe(name)
    if not recipe.trains:
        raise UsageError(f"--recipe {name}: trains nothing: it is a row of brats-opt experiment")
    if recipe.init and not init:
        raise UsageError(f"--recipe {name}: starts with trained weights: give them with --init")
    return recipe


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Locks the folder of a run, and turns a lack of memory or disk into one line.

    Raises UsageError if another run writes there or memory is too small, OutputError if the folder cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(alone_in(out))
        except BlockingIOError as error:
            raise UsageError(f"{out}: another run writes there: wait for it, or choose another --out") from error
        except OSError as error:
            raise OutputError(f"{out}: cannot be written ({error.strerror}): choose another --out") from error
        remove_leftovers(out)
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError("too little memory: choose a smaller --patch, --batch or --channels") from error
        except OSError as error:  # a full disk, or removed files
            raise OutputError(f"{error.filename or out}: cannot be used ({error.strerror}): check the disk") from error


def prepare(
    options: TrainOptions, fold: Fold, task: str, material: Material, initial: Initial | None
) -> tuple[TrainConfig, Split]:
    """The settings of a run and its cases. The settings are checked before any case is read. Raises UsageError."""
    of = task_named(task)
    _check(options, initial, of)
    _check_task(options, of)
    split = load_cases(options, fold, task, material)
    config = _config(options, initial, of).with_options(seed=options.seed + fold.index)
    if options.epochs:
        epoch = steps_of_epoch(split, options.batch)
        every = options.validate_every or epoch
        config = config.with_options(steps=options.epochs * epoch, validate_every=every)
    return config, split


def _config(options: TrainOptions, initial: Initial | None, task: Task) -> TrainConfig:
    of_task = len(task.modalities), len(task.regions)
    if initial is None:
        return TrainConfig(options, "", UNetConfig(), *of_task)
    return TrainConfig(options, initial.sha256, initial.architecture, *of_task)


def _check_task(options: TrainOptions, task: Task) -> None:
    """Raises UsageError for options that the task's regions or contrasts do not allow."""
    if options.targets == Targets.LABELS and not task.is_nested:
        raise UsageError(f"--targets labels: the regions of {task.name} are not nested: leave it out")
    if options.drop_contrasts and task.modalities != MODALITIES:
        raise UsageError(f"--drop-contrasts: {task.name} has not all four contrasts: leave it out")


def _check(options: TrainOptions, initial: Initial | None, task: Task) -> None:
    """Raises UsageError for values that contradict each other or fit no network."""
    try:
        network = _config(options, initial, task).network
    except ValueError as error:
        raise UsageError(f"--channels {','.join(map(str, options.channels))}: {error}") from error
    if options.normalisation not in set(Normalisation):
        raise UsageError(f"--normalisation {options.normalisation}: choose {', '.join(Normalisation)}")
    patch, multiple = options.patch, network.multiple
    if patch % multiple or not network.fits((patch, patch, patch)):
        raise UsageError(f"--patch {patch}: choose a multiple of {multiple} for {network.levels} levels")
    if options.amsgrad and options.optimizer == Optimizer.SGD:
        raise UsageError("--amsgrad: is for adam and adamw: give --no-amsgrad or another --optimizer")
    if initial and options.freeze == Freeze.DECODER and (new := new_regions(initial, task)):
        raise UsageError(f"--freeze decoder: would keep the random output of {new[0]}: freeze another part, or none")
    if initial is None and options.freeze != "none":
        raise UsageError(f"--freeze {options.freeze}: needs trained weights: give them with --init")
    loss_weights(options.loss)
