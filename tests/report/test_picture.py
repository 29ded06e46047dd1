"""Which way round a picture is, and where it cuts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brats_infer.report.picture import COLOURS, DARKEST, draw_picture, grey, middle_of
from brats_infer.tasks import TASKS


def test_grey_keeps_the_background_apart_from_the_darkest_brain() -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[5:15] = np.random.default_rng(0).normal(-50, 10, (10, 20, 20))
    shown = grey(image)
    assert shown[image == 0].max() == 0
    assert (shown[image != 0].min(), shown.max()) == (DARKEST, 255)
    order = np.argsort(image[5:15].ravel())
    assert (np.diff(shown[5:15].ravel()[order].astype(int)) >= 0).all()


def test_image_of_one_value_or_none_is_drawn_all_the_same(tmp_path: Path) -> None:
    nothing = grey(np.zeros((3, 3, 3), np.float32))
    assert not nothing.any()
    one = grey(np.pad([[[7.0]]], 1).astype(np.float32))  # the first of the images shows where to cut
    draw_picture([nothing, one, one, one], np.zeros_like(nothing), TASKS["gli"], "case", {}, tmp_path / "a.png")
    assert (grey(np.full((3, 3, 3), 7, np.float32)) == DARKEST).all()


@pytest.mark.parametrize("scale", [1e-40, 3e38])
@pytest.mark.filterwarnings("error")
def test_numbers_at_the_ends_of_float32_are_drawn(scale: float) -> None:
    image = np.linspace(-1, 1, 1000).astype(np.float32).reshape(10, 10, 10) * np.float32(scale)
    shown = grey(image)
    assert (shown.min(), shown.max()) == (DARKEST, 255)
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()


def test_cut_goes_through_the_largest_lesion_not_between_two() -> None:
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    labels[30:38, 20:28, 25:31] = 2
    x, y, z = middle_of(labels)
    assert labels[x, y, z] == 2


def test_image_far_longer_than_wide_makes_no_huge_picture(tmp_path: Path) -> None:
    image = np.full((4, 5, 3000), DARKEST, np.uint8)
    draw_picture([image] * 4, np.zeros_like(image), TASKS["gli"], "case", {}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.height < 3 * 1300


def test_left_of_the_patient_is_on_the_right_and_the_front_is_up(tmp_path: Path) -> None:
    """Axes run to the left, to the back, up: a lesion at high x, low y lies in the axial plane's upper right."""
    shape = (60, 60, 60)
    image = np.full(shape, DARKEST, np.uint8)
    labels = np.zeros(shape, np.uint8)
    labels[45:55, 5:15, 40:50] = 3
    draw_picture([image] * 4, labels, TASKS["gli"], "case", {"ET": 1.0}, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    colour = [int(COLOURS[3][i : i + 2], 16) for i in (1, 3, 5)]
    rows, columns = np.nonzero((pixels == colour).all(axis=2))
    first = (columns < 300) & (rows > 54)
    axial = first & (rows < 54 + 295)
    assert columns[axial].mean() > 150
    assert rows[axial].mean() < 54 + 147
    coronal = first & (rows > 54 + 300) & (rows < 54 + 590)
    assert rows[coronal].mean() < 54 + 300 + 147, "the head is up"
    assert columns[coronal].mean() > 150
    sagittal = first & (rows > 54 + 600)
    assert columns[sagittal].mean() < 150, "the front is on the left"
