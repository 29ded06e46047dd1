"""`brats-opt train`: options in, a run's folder out, and on request a member in the weights folder."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from brats_infer.errors import OutputError, UsageError, is_out_of_memory
from brats_infer.image.normalise import Normalisation
from brats_infer.network.devices import limit_threads
from brats_infer.network.loading import pick_device
from brats_infer.tasks import task_named
from brats_infer.train.choices import Optimizer, Targets
from brats_infer.train.config import TrainConfig
from brats_infer.train.data.dataset import Split, labelled_ids, load_split
from brats_infer.train.data.fresh import phantom_maker
from brats_infer.train.data.splits import fold_hold_outs
from brats_infer.train.distributed import workers_of
from brats_infer.train.loop import steps_of_epoch, train
from brats_infer.train.losses import loss_weights
from brats_infer.train.monitor.overlays import draw_overlays
from brats_infer.train.monitor.pace import silent, teller
from brats_infer.train.options import TrainOptions, merged_options
from brats_infer.train.paper.recipes import read_recipe
from brats_infer.train.publish import open_members, publish
from brats_infer.train.transfer import Initial, read_initial
from model.atomic import alone_in, remove_leftovers
from model.config import UNetConfig

CACHE = "cache"


@dataclass(frozen=True)
class Material:
    """Where cases come from."""

    data: Path
    cache: Path
    """Keeps what is preprocessed."""
    phantoms: Path | None = None


@dataclass(frozen=True)
class Fold:
    """One run of a command."""

    number: int | None
    """None where there is only one."""
    hold_out: tuple[str, ...]
    index: int = 0
    """Added to the seed, so that the networks of an ensemble do not start alike."""

    def folder(self, out: Path) -> Path:
        return out if self.number is None else out / f"fold-{self.number}"


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
    """Trains and returns the best validation, or with several folds {"fold-0": …}.

    `given` are the options of the command line, which win over the recipe's. Raises UsageError for settings that cannot
    work and a folder that another run writes to, WeightsError for `init` and `publish_to`, and what `load_split`,
    `train` and `publish` raise.
    """
    chosen = read_recipe(recipe) if recipe else None
    if chosen and not chosen.trains:
        raise UsageError(f"--recipe {recipe}: trains nothing: it is a row of brats-opt experiment")
    if chosen and chosen.init and not init:
        raise UsageError(f"--recipe {recipe}: starts with trained weights: give them with --init")
    task = task or (chosen.task if chosen else None)
    if not task:
        raise UsageError("--task: is missing: give it, or a --recipe that names one")
    initial = read_initial(init) if init else None
    options = merged_options(chosen.options if chosen else {}, network_of(initial), given)
    material = Material(data, cache or out / CACHE, phantoms)
    if publish_to:
        open_members(publish_to)
    results = {}
    limit_threads()
    chosen_device = pick_device(device)
    with workers_of(chosen_device) as workers:
        for fold in folds_of(options, task, data):
            folder = fold.folder(out)
            config, split = prepare(options, fold, task, material, initial)
            with only_run_in(folder) if workers.first else nullcontext():
                tell = teller(config, split) if workers.first else silent
                best = train(config, split, task_named(task), folder, chosen_device, initial, tell, workers, tell)
                if workers.first and split.validation:
                    draw_overlays(folder, config, split.validation[0], task_named(task), chosen_device)
                if publish_to and workers.first:
                    publish(publish_to, folder, task, config, split, best, trained_on, licence)
            results[folder.name] = best
    return results if len(results) > 1 else next(iter(results.values()))


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Raises UsageError where another run writes into that folder, OutputError where this one cannot."""
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
        except OSError as error:  # of a full disk, or files that somebody has removed
            raise OutputError(f"{error.filename or out}: cannot be used ({error.strerror}): check the disk") from error


def network_of(initial: Initial | None) -> dict[str, Any]:
    """The options of the network that weights belong to, and of what it was fed, as far as a manifest tells."""
    if initial is None or initial.member is None:
        return {}
    config = initial.member.config
    return {
        "channels": config.channels,
        "normalisation": initial.member.normalisation,
        "foreground": config.foreground,
        "deep_supervision": config.deep_supervision,
        "spacing": config.spacing,
        "targets": Targets.LABELS if config.disjoint else Targets.REGIONS,
    }


def folds_of(options: TrainOptions, task: str, data: Path) -> Iterator[Fold]:
    """The runs that are asked for. Raises UsageError for a fold that there is not."""
    if options.folds is None:
        if "fold" in options.model_fields_set:
            raise UsageError(f"--fold {options.fold}: of how many: give --folds too")
        yield Fold(None, options.hold_out)
        return
    held_out = fold_hold_outs(labelled_ids(data, task, options.skip), options.folds, options.seed)
    if options.fold == "all":
        yield from (Fold(number, tuple(ids), number) for number, ids in enumerate(held_out))
    elif options.fold < options.folds:
        yield Fold(None, tuple(held_out[options.fold]), options.fold)
    else:
        raise UsageError(f"--fold {options.fold}: choose one from 0 to {options.folds - 1}, or all")


def prepare(
    options: TrainOptions, fold: Fold, task: str, material: Material, initial: Initial | None
) -> tuple[TrainConfig, Split]:
    """The settings of a run, checked before any case is read, and its cases. Raises UsageError."""
    config = _config(options, initial)
    check_share(options, material)
    config = replace(config, seed=config.seed + fold.index)
    if options.anatomy and material.phantoms:
        raise UsageError("--phantoms and --anatomy: new phantoms are drawn in place of those: give one of them")
    split = load_split(
        material.data,
        task,
        fold.hold_out,
        options.skip,
        Normalisation(config.normalisation),
        material.cache,
        material.phantoms,
        config.network.spacing,
        options.clean_labels,
        others=options.anatomy is not None,
    )
    if options.anatomy:
        kind, spacing = Normalisation(config.normalisation), config.network.spacing
        named = task_named(task)
        maker = phantom_maker(options.anatomy, named, kind, split.histogram, spacing, options.clean_labels)
        split = replace(split, fresh=maker)
    if config.phantom_share == 0 and not split.training:
        raise UsageError(f"--phantom-share 0: all cases of {material.data} are held out or skipped: hold out fewer")
    if options.epochs:
        epoch = steps_of_epoch(split, options.batch)
        every = options.validate_every or epoch
        config = replace(config, steps=options.epochs * epoch, validate_every=every)
    return config, split


def check_share(options: TrainOptions, material: Material) -> None:
    """Raises UsageError where a share of phantoms is asked for and there are none."""
    asked = "phantom_share" in options.model_fields_set and options.phantom_share > 0
    if asked and not (material.phantoms or options.anatomy):
        raise UsageError(f"--phantom-share {options.phantom_share:g}: of what: give --phantoms or --anatomy")


def _config(options: TrainOptions, initial: Initial | None) -> TrainConfig:
    """All but what depends on the number of cases."""
    try:
        network = UNetConfig(
            channels=options.channels,
            foreground=options.foreground,
            deep_supervision=options.deep_supervision,
            dropout=options.dropout,
            disjoint=options.targets == Targets.LABELS,
            spacing=options.spacing,
        )
    except ValueError as error:
        raise UsageError(f"--channels {','.join(map(str, options.channels))}: {error}") from error
    if options.normalisation not in set(Normalisation):
        raise UsageError(f"--normalisation {options.normalisation}: choose {', '.join(Normalisation)}")
    patch, multiple = options.patch, network.multiple
    if patch % multiple or not network.fits((patch, patch, patch)):
        raise UsageError(f"--patch {patch}: choose a multiple of {multiple} for {network.levels} levels")
    if options.amsgrad and options.optimizer == Optimizer.SGD:
        raise UsageError("--amsgrad: is for adam and adamw: give --no-amsgrad or another --optimizer")
    if initial is None and options.freeze != "none":
        raise UsageError(f"--freeze {options.freeze}: needs trained weights: give them with --init")
    loss_weights(options.loss)
    return TrainConfig(
        network=network,
        normalisation=options.normalisation,
        patch=(patch, patch, patch),
        validate_every=options.validate_every or TrainConfig.validate_every,
        initial_sha256=initial.sha256 if initial else "",
        **{name: getattr(options, name) for name in SAME_NAME},
    )


SAME_NAME = (
    *(
        "augment",
        "batch",
        "steps",
        "loss",
        "optimizer",
        "amsgrad",
        "weight_decay",
        "learning_rate",
        "schedule",
        "decay",
    ),
    *("warm_up", "ema", "select", "clean_labels", "freeze", "seed", "phantom_share", "anatomy"),
)
"""What `TrainOptions` and `TrainConfig` call by one name."""
