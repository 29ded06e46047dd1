"""`prepare.json`: the origin of a prepared case, and the places of its scans, which `restore` needs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the package's own custom
from pydantic import BaseModel, ConfigDict, ValidationError

from brats_infer import __version__
from brats_infer.errors import CaseError
from brats_infer.preparation.case_of_study import Prepared
from brats_infer.preparation.registration.grids import Grid
from brats_infer.preparation.studies.study import Study
from model.atomic import write_atomically

RECORD = "prepare.json"


class Quality(BaseModel):
    """A registration."""

    model_config = ConfigDict(extra="forbid")
    to: str
    """The contrast or atlas that the scan was registered to."""
    information_before: float
    """Mutual information with the headers' own places, nats."""
    information: float
    disagreement_mm: float
    """Mean over the brain between both directions."""


class Scanned(BaseModel):
    """One contrast."""

    model_config = ConfigDict(extra="forbid")
    source: str
    series: str
    """How `--series` names it."""
    size: tuple[int, int, int]
    """Voxels of the scan."""
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    direction: tuple[float, float, float, float, float, float, float, float, float]
    """As ITK has them: mm, LPS, row by row."""
    matrix: tuple[float, float, float, float, float, float, float, float, float]
    translation: tuple[float, float, float]
    """A point of the case -> a point of the scan, mm, LPS."""
    registration: Quality | None
    coverage: float
    """The share of the brain in the scan's field of view."""

    @property
    def grid(self) -> Grid:
        """The scan's own grid."""
        return Grid(self.size, self.origin, self.spacing, self.direction)

    @property
    def transform(self) -> sitk.AffineTransform:
        """A point of the case -> a point of the scan."""
        return sitk.AffineTransform(self.matrix, self.translation)


class Record(BaseModel):
    """One prepared case."""

    model_config = ConfigDict(extra="forbid")
    version: str
    """Of brats-opt."""
    atlas: str
    reference: str
    brain_ml: float
    contrasts: dict[str, Scanned]
    notes: tuple[str, ...]


def record_of(prepared: Prepared, study: Study, atlas: str) -> Record:
    """The record of a case that was prepared from a study."""
    millilitres = np.count_nonzero(sitk.GetArrayViewFromImage(prepared.brain)) / 1000
    scans = {contrast: _scanned(prepared, study, contrast, atlas) for contrast in prepared.images}
    return Record(
        version=__version__,
        atlas=atlas,
        reference=prepared.reference,
        brain_ml=millilitres,
        contrasts=scans,
        notes=study.notes,
    )


def _scanned(prepared: Prepared, study: Study, contrast: str, atlas: str) -> Scanned:
    grid, transform = prepared.native[contrast], prepared.transforms[contrast]
    found = prepared.registrations.get(contrast)
    quality = None
    if found:
        quality = Quality(
            to=atlas if contrast == prepared.reference else prepared.reference,
            information_before=round(found.before, 4),
            information=round(found.after, 4),
            disagreement_mm=round(found.disagreement, 3),
        )
    return Scanned(
        source=study.scans[contrast].source,
        series=study.scans[contrast].label,
        size=grid.size,
        origin=grid.origin,
        spacing=grid.spacing,
        direction=grid.direction,  # type: ignore[arg-type]
        matrix=transform.GetMatrix(),
        translation=transform.GetTranslation(),
        registration=quality,
        coverage=round(prepared.coverage[contrast], 3),
    )


def write_record(folder: Path, record: Record) -> None:
    """Writes the record of a case's folder, atomically."""
    write_atomically(folder / RECORD, (json.dumps(record.model_dump(mode="json"), indent=2) + "\n").encode())


def read_record(folder: Path) -> Record:
    """The record of a case's folder. Raises CaseError."""
    path = folder / RECORD
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return Record.model_validate(content)
    except OSError as error:
        raise CaseError(f"{path}: cannot be read ({error.strerror}): give the folder that prepare wrote") from error
    except (ValueError, ValidationError) as error:
        raise CaseError(f"{path}: is not a record of prepare: prepare the study again") from error
