"""Contrasts that look exchanged: field report 17."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from brats_infer.files.nifti import read_images
from brats_infer.image.crop import crop_to_brain
from brats_infer.image.exchanged import exchanged
from tests.case_files import SRI24
from tests.image.volumes import case_of

T1 = "t1n and t1c look exchanged: check which file is which"
T2 = "t2w and t2f look exchanged: check which file is which"
SIDE = 84


def contrasts(side: int = SIDE) -> list[NDArray[np.float32]]:
    """t1n, t1c, t2w, t2f of a ball of tissue with fluid in the middle, oedema, and an enhancing rim."""
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij"))
    radius = np.sqrt((at**2).sum(axis=0))
    tumor = np.sqrt(((at - 0.45) ** 2).sum(axis=0))
    noise = np.random.default_rng(0).normal(1, 0.05, (4, *radius.shape))
    images = []
    for channel, (tissue, fluid, oedema, rim) in enumerate(
        ((100, 30, 80, 85), (100, 30, 80, 260), (100, 320, 210, 180), (100, 30, 260, 220))
    ):
        image = np.where(radius < 0.3, fluid, np.where(tumor < 0.3, oedema, tissue))
        image = np.where((tumor > 0.12) & (tumor < 0.2), rim, image) * noise[channel]
        images.append(np.where(radius < 1, image, 0).astype(np.float32))
    return images


@pytest.mark.parametrize(
    ("order", "remarks"),
    [((0, 1, 2, 3), []), ((1, 0, 2, 3), [T1]), ((0, 1, 3, 2), [T2]), ((1, 0, 3, 2), [T1, T2])],
)
def test_exchanged_contrasts_are_told(order: tuple[int, ...], remarks: list[str]) -> None:
    images = contrasts()
    assert exchanged(crop_to_brain(case_of([images[i] for i in order], SRI24))) == remarks


def test_a_small_brain_and_contrasts_without_a_difference_are_not_judged() -> None:
    small = contrasts(40)
    assert exchanged(crop_to_brain(case_of([small[i] for i in (1, 0, 3, 2)], SRI24))) == []
    assert exchanged(crop_to_brain(case_of([contrasts()[0]] * 4, SRI24))) == []
    flat = np.pad(np.ones((SIDE, SIDE, SIDE), np.float32), 5)
    assert exchanged(crop_to_brain(case_of([flat] * 4, SRI24))) == []


def test_no_real_case_is_told_and_each_exchange_of_a_real_case_is(shared: Path) -> None:
    for folder in sorted((shared / "cases" / "gli" / "images").iterdir()):
        volumes = read_images([folder / f"{folder.name}-{name}.nii.gz" for name in ("t1n", "t1c", "t2w", "t2f")])
        for order, remarks in (((0, 1, 2, 3), []), ((1, 0, 2, 3), [T1]), ((0, 1, 3, 2), [T2])):
            values = list(volumes.values())
            case = {Path(f"case/{i}"): values[i] for i in order}
            assert exchanged(crop_to_brain(case)) == remarks, folder.name
