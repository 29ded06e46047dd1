"""Transfer learning: the weights that training starts with, and the layers that keep them (paper 2.7)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from brats_infer.errors import UsageError, WeightsError
from brats_infer.tasks import TASKS, Task, meaning_of
from brats_infer.train.choices import Freeze, Targets, TrainOptions, flag, merged_options
from brats_infer.train.narrow import can_narrow, narrowed
from brats_infer.train.run_config import BEST, SETTINGS, read_network
from model.checkpoint import MANIFEST, CheckpointError, read_manifest, read_verified
from model.config import Member, UNetConfig
from model.unet import UNet, group_prefixes

FIRST_LAYERS = ("down.1.conv1.weight", "stem.conv1.weight")
"""Parameters with a column for each input channel."""
UNSEEN = ("spacing", "normalisation")
"""Options that change the input of a network and leave no trace in its tensors."""


@dataclass(frozen=True)
class Initial:
    """Weights to start with."""

    path: Path
    sha256: str
    state: dict[str, Tensor]
    """{parameter: float32}"""
    member: Member | None
    """The file's entry in the manifest beside it."""
    options: dict[str, Any]
    """The options of the network, as far as the manifest, the settings of its run or the tensors tell them."""

    architecture: UNetConfig = field(default_factory=UNetConfig)
    """The network, as far as the manifest or the settings of its run tell it."""
    task: str = ""
    """The task of the network; empty if nothing tells it."""

    def put_into(self, network: UNet, task: Task | None = None) -> None:
        """Copies the weights into a network of `task`, by default the weights' own.

        A narrower network gets the channels that matter most. Of another task it keeps what `carried_over` leaves
        alone. Raises UsageError for a network of another configuration.
        """
        own, state = network.state_dict(), self.state
        if self.architecture.background and not network.config.background:
            state = without_background(state)
        if can_narrow(state, network.config.channels):
            state = narrowed(state, network.config.channels)
        source = TASKS.get(self.task)
        if source and task and source != task:
            state = carried_over(state, own, source, task)
        wrong = [n for n in (*own, *state) if n not in own or n not in state or own[n].shape != state[n].shape]
        if wrong:
            raise UsageError(
                f"--init {self.path}: is of another network, it differs in {wrong[0]}: leave out --channels …"
            )
        network.load_state_dict(state)


def without_background(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of a network with a softmax as those of one with a sigmoid for each label.

    A label's logit becomes its difference to the background's logit.
    """
    return {name: tensor[1:] - tensor[:1] if name.startswith("heads.") else tensor for name, tensor in state.items()}


def carried_over(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], source: Task, target: Task
) -> dict[str, Tensor]:
    """Parameters of a network of `source` as those of a network of `target`, whose own ones are `own`.

    Outputs are carried over from regions that mean the same, inputs from the same contrasts. The others keep `own`.
    """
    found, wanted = ([meaning_of(region) for region in task.regions] for task in (source, target))
    heads = {to: found.index(meaning) for to, meaning in enumerate(wanted) if meaning in found}
    inputs = {to: source.modalities.index(m) for to, m in enumerate(target.modalities) if m in source.modalities}
    inputs[len(target.modalities)] = len(source.modalities)  # the brain mask, in networks that have it
    kept = dict(state)
    for name, tensor in state.items():
        there = own.get(name)
        if there is None or tensor.ndim != there.ndim:
            continue
        if name.startswith("heads.") and tensor.shape[1:] == there.shape[1:]:
            kept[name] = _with_rows(there, tensor, heads)
        elif name in FIRST_LAYERS and tensor.shape[0] == there.shape[0] and tensor.shape[2:] == there.shape[2:]:
            kept[name] = _with_rows(there.transpose(0, 1), tensor.transpose(0, 1), inputs).transpose(0, 1)
    return kept


def new_regions(initial: Initial, target: Task) -> list[str]:
    """The regions of `target` whose outputs start at random; none where nothing tells the task of the weights."""
    if initial.task not in TASKS:
        return []
    known = {meaning_of(region) for region in TASKS[initial.task].regions}
    return [region.name for region in target.regions if meaning_of(region) not in known]


def _with_rows(own: Tensor, other: Tensor, rows: Mapping[int, int]) -> Tensor:
    """A copy of `own` with rows {own: other} of another tensor; rows beyond either are left out."""
    out = own.clone()
    for to, at in rows.items():
        if to < len(out) and at < len(other):
            out[to] = other[at]
    return out


def options_with(initial: Initial | None, recipe: Mapping[str, Any], given: Mapping[str, Any]) -> TrainOptions:
    """The options of a recipe, then of the initial network, then of the command line; the later ones win.

    Raises UsageError if nothing tells the grid or the normalisation of the initial network, and what `merged_options`
    raises.
    """
    if initial is None:
        return merged_options(recipe, given)
    missing = [name for name in UNSEEN if not any(name in told for told in (initial.options, recipe, given))]
    if missing:
        raise UsageError(
            f"--init {initial.path}: holds {_described(network_of(initial.path, initial.state))}; nothing beside it "
            f"tells the rest: give {' and '.join(map(flag, missing))}"
        )
    return merged_options(recipe, initial.options, given)


def read_initial(path: Path) -> Initial:
    """Reads `FILE.safetensors`, the best checkpoint of a run's folder, or the only file of a weights folder.

    A file that a manifest lists is verified. Raises UsageError for a path that names no single file and for a file
    without a network, WeightsError for a file that is damaged.
    """
    try:
        file = path if path.suffix == ".safetensors" else _file_of(path)
        members = read_manifest(file.parent) if (file.parent / MANIFEST).exists() else []
        member = next((member for member in members if member.file == file.name), None)
        content = read_verified(file, member.sha256) if member else file.read_bytes()
        state = {name: tensor.float() for name, tensor in load(content).items()}
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise UsageError(f"--init {file}: cannot be read ({error.strerror}): give a .safetensors file") from error
    except SafetensorError as error:
        raise WeightsError(f"{file}: is no safetensors file ({error}): take the weights again") from error
    network, options, task = _told(file, state, member)
    return Initial(file, hashlib.sha256(content).hexdigest(), state, member, options, network, task)


def _file_of(folder: Path) -> Path:
    """The file of weights in a folder. Raises UsageError where it has several, CheckpointError where it has none."""
    if (folder / SETTINGS).exists() and not (folder / MANIFEST).exists():
        return folder / BEST
    files = sorted({member.file for member in read_manifest(folder)})
    if len(files) != 1:
        raise UsageError(f"--init {folder}: holds {len(files)} files, not one: give {folder}/FILE.safetensors")
    return folder / files[0]


def _told(file: Path, state: Mapping[str, Tensor], member: Member | None) -> tuple[UNetConfig, dict[str, Any], str]:
    """The network, its options and its task as of `Initial`."""
    if member:
        network, normalisation, task = member.config, member.normalisation, member.task
    elif (file.parent / SETTINGS).exists():
        network, normalisation, task = read_network(file.parent)
    else:
        network = network_of(file, state)
        return network, {name: getattr(network, name) for name in ("channels", "foreground", "deep_supervision")}, ""
    options = {
        "channels": network.channels,
        "normalisation": normalisation,
        "foreground": network.foreground,
        "deep_supervision": network.deep_supervision,
        "spacing": network.spacing,
        "targets": Targets.LABELS if network.disjoint or network.background else Targets.REGIONS,
    }
    return network, options, task


def network_of(file: Path, state: Mapping[str, Tensor]) -> UNetConfig:
    """The network that tensors belong to, as far as their shapes tell. Raises UsageError for other tensors."""
    levels = sum(name.startswith("down.") and name.endswith(".conv1.weight") for name in state)
    try:
        first, *others = (state[f"down.{level}.conv1.weight"] for level in range(1, levels + 1))
        inputs, modalities = first.shape[1], UNetConfig.modalities
        foreground = inputs == modalities + 1
        return UNetConfig(
            channels=tuple(tensor.shape[0] for tensor in (first, *others)),
            modalities=inputs - int(foreground),
            regions=state["heads.1.weight"].shape[0],
            foreground=foreground,
            deep_supervision="heads.2.weight" in state,
        )
    except (LookupError, ValueError) as error:
        raise UsageError(f"--init {file}: holds no network of brats-opt: give weights that it has trained") from error


def _described(network: UNetConfig) -> str:
    """In words, for a message."""
    foreground, heads = ("with" if yes else "without" for yes in (network.foreground, network.deep_supervision))
    return (
        f"a network of --channels {','.join(map(str, network.channels))}, {foreground} foreground channel, "
        f"{heads} deep supervision, of {network.regions} regions"
    )


def freeze(network: UNet, group: Freeze) -> None:
    """Freezes a group of layers. They get no gradient, which saves memory and time."""
    prefixes = group_prefixes(network.config, group.value)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(prefixes))
