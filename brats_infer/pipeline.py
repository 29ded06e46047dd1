"""The line of one case: read -> predict -> label. Pure: no threads, no timing, nothing is written.

`run.case` wraps it for folders; `api`, validation in training and the paper's experiments call it directly.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brats_infer.errors import CaseError
from brats_infer.files.cases import Case
from brats_infer.files.nifti import Volume, read_case
from brats_infer.image.crop import Cropped, Restore, crop_to_brain
from brats_infer.image.quality import check_content, oddities
from brats_infer.labelling.label_map import (
    Found,
    inside_brain,
    is_post_processed,
    label_map,
    label_volumes,
    probability_maps,
)
from brats_infer.network.ensemble import Ensemble, Inputs
from brats_infer.settings import Settings
from brats_infer.tasks import Task

FROM_OTHERS = "the map is made from the other contrasts"
"""Ends the warning of an absent contrast."""
NO_TUMOR = "no tumor was found, the label map is empty: look at the images"


@dataclass(frozen=True)
class Read:
    """A case's inputs for the networks, on a crop at 1 mm."""

    cropped: Cropped
    inputs: Inputs
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Predicted:
    """The networks' result for a case, on the same crop."""

    found: Found
    """With complete probabilities, also outside the brain."""
    brain: NDArray[np.bool_]
    restore: Restore
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Labelled:
    """A case's label map on the input's own grid, and the data behind it."""

    labels: NDArray[np.uint8]
    """(X, Y, Z)"""
    millilitres: dict[str, float]
    """Volume of each label."""
    found: Found
    """On the crop; the labels are inside the brain, unless they are not post-processed."""
    brain: NDArray[np.bool_]
    restore: Restore
    warnings: tuple[str, ...]
    """Each names a file or folder."""
    notes: tuple[str, ...]
    """Remarks on the case, without its name."""

    def probability_maps(self) -> NDArray[np.float32]:
        """(R, X, Y, Z) of the regions, before thresholds. Raises ValueError if `predict` did not keep them."""
        return probability_maps(self.found, self.restore)


def read(case: Case, ensemble: Ensemble) -> Read:
    """From files to the networks' inputs. Raises CaseError."""
    return prepare(read_case(case), ensemble)


def prepare(volumes: dict[Path, Volume], ensemble: Ensemble) -> Read:
    """From a case's images to the networks' inputs: check, crop, normalise. Raises CaseError."""
    absent = [volume.absent for volume in volumes.values() if volume.absent is not None]
    if absent and not ensemble.takes_absent:
        raise CaseError(f"{absent[0]}, and no network here was trained without a contrast: give all four images")
    warnings = [f"{reason}: {FROM_OTHERS}" for reason in absent] + check_content(volumes)
    cropped = crop_to_brain(volumes)
    warnings += oddities(volumes, cropped)
    return Read(cropped, ensemble.prepare(cropped), tuple(warnings))


def predict(case: Read, ensemble: Ensemble, settings: Settings) -> Predicted:
    """Runs the networks and applies the regions' thresholds."""
    found = ensemble.predict(case.inputs, settings, True)
    return Predicted(found, case.cropped.brain, case.cropped.restore, case.warnings)


def label(predicted: Predicted, task: Task, settings: Settings, complete: bool = False) -> Labelled:
    """Post-processes the labels, if task and settings say so, and puts them back on the input's own grid.

    `complete` is for `probability_maps`: the probabilities outside the brain become 0. Those of a resampled case do.
    """
    restore, brain = predicted.restore, predicted.brain
    found = replace(predicted.found, complete=complete or restore.resampled)
    if is_post_processed(task, settings):
        found = inside_brain(found, brain)
    labels = label_map(found, restore, task, settings)
    millilitres = label_volumes(labels, task, restore.geometry.voxel_mm3)
    notes = found.notes if labels.any() else (*found.notes, NO_TUMOR)
    return Labelled(labels, millilitres, found, brain, restore, predicted.warnings, notes)
