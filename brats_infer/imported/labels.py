"""Names of labels, regions and channels in other programs, as those of a task."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brats_infer.files.search.names import contrast_named
from brats_infer.imported.unfit import UnfitError
from brats_infer.tasks import MODALITIES, Rule, Task

BACKGROUND, IGNORED = "background", "ignore"
_REGIONS = {
    "WT": ("wt", "whole tumor", "whole tumour", "whole"),
    "TC": ("tc", "tumor core", "tumour core", "core"),
    "ET": ("et", "enhancing tumor", "enhancing tumour", "enhancing"),
}
_LABELS = {
    "NCR": (
        *("ncr", "necrosis", "necrotic", "necrotic core", "necrotic tumor core", "ncr net", "net", "netc", "ncr netc"),
        *("non enhancing tumor", "non enhancing tumor core", "non enhancing", "necrotic non enhancing tumor core"),
    ),
    "ED": ("ed", "edema", "oedema", "peritumoral edema", "peritumoral edematous invaded tissue", "snfh"),
    "ET": ("et", "enhancing tumor", "enhancing tumour", "enhancing", "enhancing tissue", "gd enhancing tumor"),
    "RC": ("rc", "resection cavity", "cavity"),
}


@dataclass(frozen=True)
class Outputs:
    """The outputs of a network in the task's order."""

    order: tuple[int, ...]
    """Channels of the source: the background, if it has a channel, then the task's regions or their own labels."""
    rule: Rule
    background: bool
    note: str = ""
    """A remark for the user."""


def outputs_of(labels: Mapping[str, Any], class_order: Sequence[int] | None, task: Task) -> Outputs:
    """The outputs that nnU-Net's dataset.json describes: regions with sigmoids, or labels with a softmax.

    Raises UnfitError if they are not those of the task.
    """
    if not task.is_nested or task.modalities != MODALITIES:
        raise UnfitError(f"the regions or contrasts of {task.name} are not those of gli: it cannot be imported yet")
    named = {name: value for name, value in labels.items() if _numbers(value) != {0} and name != IGNORED}
    if any(len(_numbers(value)) > 1 for value in named.values()):
        return _regions(named, class_order, task)
    ascending = sorted(named, key=lambda name: min(_numbers(named[name])))
    own = [task.name_of(region.label) for region in task.regions]
    found = [_known(name, _LABELS, "label") for name in ascending]
    _compare(found, own, ascending, "labels", task)
    return Outputs((0, *(1 + found.index(name) for name in own)), Rule.ARGMAX, True)


def _regions(named: Mapping[str, Any], class_order: Sequence[int] | None, task: Task) -> Outputs:
    found = [_known(name, _REGIONS, "region") for name in named]
    wanted = [region.name for region in task.regions]
    _compare(found, wanted, list(named), "regions", task)
    if not class_order or len(class_order) != len(found):
        raise UnfitError("its regions_class_order does not name a label for each region: take the data set's own file")
    members = dict(zip(found, map(_numbers, named.values()), strict=True))
    for outer, inner in itertools.pairwise(wanted):
        if not members[inner] < members[outer]:
            raise UnfitError(f"its region {inner} does not lie inside {outer}: the task {task.name} needs that")
    order = tuple(found.index(name) for name in wanted)
    note = "" if order == tuple(sorted(order)) else "its regions_class_order writes outer regions over inner ones"
    return Outputs(order, Rule.INNERMOST, False, note and f"{note}: the member writes inner regions over outer ones")


def channels_of(names: Sequence[str], given: Sequence[str]) -> tuple[int, ...]:
    """The source's channel of each contrast, in the task's order. `given` contrasts win over `names`.

    Raises UnfitError for names that are not those of the four contrasts.
    """
    wanted = [modality.name for modality in MODALITIES]
    if len(names) != len(wanted):
        raise UnfitError(f"takes {len(names)} channels, not the {len(wanted)} contrasts: it cannot be a member")
    found = list(given) or [contrast_named(name) or "" for name in names]
    if sorted(found) != sorted(wanted):
        raise UnfitError(f"its channels {', '.join(map(str, names))} do not name the contrasts: give --channels")
    return tuple(found.index(name) for name in wanted)


def _known(name: str, names: Mapping[str, Sequence[str]], kind: str) -> str:
    """Our name of a label or region. Raises UnfitError."""
    plain = " ".join(re.sub(r"[^a-z0-9]+", " ", name.lower()).split())
    for own, others in names.items():
        if plain in others:
            return own
    raise UnfitError(f"its {kind} {name!r} is none of {', '.join(names)}: name it so in dataset.json if it is one")


def _compare(found: Sequence[str], wanted: Sequence[str], given: Sequence[str], kind: str, task: Task) -> None:
    if sorted(found) != sorted(wanted):
        raise UnfitError(
            f"its {kind} {', '.join(given)} are not those of the task {task.name}, {', '.join(wanted)}: "
            "choose another --task or another model"
        )


def _numbers(value: Any) -> set[int]:
    """The label numbers of an entry. Raises UnfitError."""
    try:
        return {int(n) for n in value} if isinstance(value, list | tuple) else {int(value)}
    except (TypeError, ValueError) as error:
        raise UnfitError(f"its label {value!r} is no number: take the data set's own file") from error
