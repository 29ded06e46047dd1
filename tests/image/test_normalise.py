"""Intensities as networks are fed them: z-score, percentile stretch, histogram matching."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from brats_infer.image.normalise import Normalisation, histogram_reference, normalise
from brats_infer.network.gpu.inputs import zscores


def brains(seed: int = 0, shape: tuple[int, int, int] = (14, 15, 16)) -> NDArray[np.float32]:
    """(4, X, Y, Z): skewed, partly negative, of four scales; each modality with background of its own."""
    rng = np.random.default_rng(seed)
    images = rng.gamma(2, 100, (4, *shape)) - 60
    images *= np.array([1, 30, 0.01, -5])[:, None, None, None]
    images[rng.random((4, *shape)) < 0.4] = 0
    return images.astype(np.float32)


@pytest.mark.parametrize("variant", sorted(set(Normalisation) - {Normalisation.ZSCORE_BRAIN, Normalisation.ZSCORE_BOX}))
def test_background_stays_exactly_0_and_the_input_as_it_was(variant: Normalisation) -> None:
    images = brains()
    before = images.copy()
    out = normalise(images, variant, reference=np.linspace(0, 1, 100, dtype=np.float32)[None].repeat(4, axis=0))
    assert out.dtype == np.float32
    assert out.shape == images.shape
    assert np.isfinite(out).all()
    assert (out[images == 0] == 0).all()
    assert np.array_equal(images, before)
    assert out is not images


@pytest.mark.parametrize("whole_box", [False, True])
def test_zscores_of_nnunet_are_over_the_same_voxels_of_each_modality(whole_box: bool) -> None:
    """The union of the modalities' brains with its cavities, by scipy; or the box around it."""
    images = np.pad(brains(), ((0, 0), (3, 2), (2, 1), (0, 4)))
    images[:, 7:10, 7:10, 7:10] = 0
    brain = ndimage.binary_fill_holes((images != 0).any(axis=0))
    assert brain is not None
    box = ndimage.find_objects(brain.astype(int))[0]
    inside = np.zeros_like(brain)
    inside[box] = True if whole_box else brain[box]
    out = normalise(images, Normalisation.ZSCORE_BOX if whole_box else Normalisation.ZSCORE_BRAIN)
    for found, image in zip(out, images, strict=True):
        voxels = image[inside]
        np.testing.assert_allclose(found[inside], (voxels - voxels.mean()) / voxels.std(), rtol=0, atol=2e-5)
        assert not found[~inside].any()
    again = normalise(images, Normalisation.ZSCORE_BRAIN)
    assert np.array_equal(normalise(images, Normalisation.ZSCORE_BRAIN, out=images), again)
    assert not normalise(np.zeros((4, 3, 4, 5), np.float32), Normalisation.ZSCORE_BRAIN).any()


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zscores_of_a_device_are_those_of_the_host(dtype: torch.dtype, order: str) -> None:
    """Of images of a brain's size, skewed, nearly constant and far from 0, partly empty, and constant."""
    rng = np.random.default_rng(0)
    shape = (150, 180, 150)
    images = rng.gamma(2, 100, (4, *shape)).round().clip(0, 30000)
    images[:, rng.random(shape) < 0.4] = 0
    images[1] = np.where(images[1] != 0, 30000 + (rng.random(shape) < 0.3), 0)
    images[2, :, :, 10:] = 0
    images[3] = np.where(images[3] != 0, 7, 0)
    there = torch.from_numpy(images).to(dtype)
    there = there if order == "C" else there.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1)
    out = zscores(there)
    assert out.is_contiguous()
    for found, image in zip(out[:-1].numpy(), images, strict=True):
        voxels = image[image != 0]
        np.testing.assert_allclose(
            found[image != 0], (voxels - voxels.mean()) / (voxels.std() or 1), rtol=1e-6, atol=2e-6
        )
        assert (found[image == 0] == 0).all()
    assert np.array_equal(out[-1].numpy(), (images != 0).any(axis=0))
    assert torch.equal(there, torch.from_numpy(images).to(dtype))


def test_zscores_of_nothing_are_nothing() -> None:
    assert not zscores(torch.zeros((4, 5, 6, 7), dtype=torch.int16)).any()


def test_none_changes_nothing() -> None:
    assert np.array_equal(normalise(brains(), Normalisation.NONE), brains())


@pytest.mark.parametrize(("factor", "shift"), [(1e20, 0), (1e34, 0), (1e-25, 0), (1e-19, 0), (1, 3e5), (-1, 1e5)])
def test_zscore_does_not_depend_on_scale_and_offset(factor: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(5, 900, (4, 14, 15, 16))
    images[:, :4] = 0
    moved = np.where(images == 0, 0, images * factor + shift).astype(np.float32)
    for before, after in zip(images, normalise(moved, Normalisation.ZSCORE), strict=True):
        voxels = before[before != 0]
        expected = np.where(before == 0, 0, (before - voxels.mean()) / voxels.std()) * np.sign(factor)
        np.testing.assert_allclose(after, expected, rtol=0, atol=1e-4)


def test_zscore_is_that_of_each_modalitys_own_brain_voxels_negative_ones_among_them() -> None:
    images = brains()
    out = normalise(images, Normalisation.ZSCORE)
    for before, after in zip(images, out, strict=True):
        voxels = before[before != 0].astype(np.float64)
        assert (voxels < 0).any()
        assert np.allclose(after[before != 0], (voxels - voxels.mean()) / voxels.std(), atol=1e-5)


def by_definition(values: NDArray[np.float64], share: float) -> float:
    """The percentile, interpolated between the ordered values."""
    ordered = np.sort(values)
    place = share / 100 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


@pytest.mark.parametrize("zscore_first", [False, True])
def test_rescale_stretches_the_2nd_to_98th_percentile_of_the_brain_and_clips(zscore_first: bool) -> None:
    images = brains()
    out = normalise(images, Normalisation.RESCALE)
    for before, after in zip(images, out, strict=True):
        voxels = before[before != 0].astype(np.float64)
        if zscore_first:  # as the paper says; the percentiles undo it, which is why it is left out
            voxels = (voxels - voxels.mean()) / voxels.std()
        low, high = by_definition(voxels, 2), by_definition(voxels, 98)
        assert np.allclose(after[before != 0], np.clip((voxels - low) / (high - low), 0, 1), atol=1e-5)
        assert (after.min(), after.max()) == (0, 1)


@given(st.floats(0.01, 100), st.floats(-1000, 1000), st.integers(0, 5))
@settings(max_examples=30)
def test_zscore_and_rescale_do_not_depend_on_the_scanners_scale(gain: float, shift: float, seed: int) -> None:
    images = brains(seed)[:1]
    mask = images != 0
    scaled = np.where(mask, images * np.float32(gain) + np.float32(shift), 0).astype(np.float32)
    if (mask & (scaled == 0)).any():
        return
    for variant in (Normalisation.ZSCORE, Normalisation.RESCALE):
        assert np.allclose(normalise(scaled, variant), normalise(images, variant), atol=2e-2)


def test_images_of_a_tiny_scale_are_stretched_as_any_other() -> None:
    images = brains()[:1]
    for variant in (Normalisation.ZSCORE, Normalisation.RESCALE):
        assert np.allclose(normalise(images * np.float32(1e-12), variant), normalise(images, variant), atol=1e-3)


def test_each_modality_is_normalised_by_itself() -> None:
    images = brains()
    for variant in (Normalisation.ZSCORE, Normalisation.RESCALE):
        together = normalise(images, variant)
        assert all(np.array_equal(together[i], normalise(images[i : i + 1], variant)[0]) for i in range(4))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("variant", [Normalisation.ZSCORE, Normalisation.RESCALE, Normalisation.HISTOGRAM])
def test_brains_of_nearly_one_value_stay_finite(variant: Normalisation) -> None:
    images = np.zeros((4, 8, 8, 8), np.float32)
    images[:, 2:6, 2:6, 2:6] = 40
    images[0, 3, 3, 3] = 41  # beyond the 98th percentile
    images[1, 3, 3, 3] = 40.000004
    images[3] = 0  # a modality that resampling emptied
    out = normalise(images, variant, np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(4, axis=0))
    assert np.isfinite(out).all()
    assert (out[images == 0] == 0).all()


@pytest.mark.parametrize("shape_of_reference", ["uniform", "skewed"])
def test_histogram_matching_gives_the_references_distribution_and_keeps_the_order(shape_of_reference: str) -> None:
    images = brains(shape=(24, 24, 24))
    even = np.linspace(0, 1, 4096, dtype=np.float32)
    reference = np.stack([even if shape_of_reference == "uniform" else even**power for power in (2, 3, 0.5, 1)])
    out = normalise(images, Normalisation.HISTOGRAM, reference)
    for before, after, wanted in zip(images, out, reference, strict=True):
        voxels = after[before != 0]
        at = np.linspace(0.03, 0.97, 40)  # what the rescaling clipped is one value and cannot be spread out
        assert np.allclose(np.quantile(voxels, at), np.quantile(wanted, at), atol=0.02)
        order = np.argsort(before[before != 0], kind="stable")
        assert (np.diff(voxels[order]) >= -1e-5).all()


def test_histogram_matching_without_a_reference_is_told() -> None:
    with pytest.raises(ValueError, match="needs a reference"):
        normalise(brains(), Normalisation.HISTOGRAM)


def test_the_reference_is_the_mean_of_the_cases_quantiles() -> None:
    cases = [brains(seed) for seed in range(3)]
    reference = histogram_reference(cases, samples=101)
    assert reference.shape == (4, 101)
    assert reference.dtype == np.float32
    assert (np.diff(reference) >= 0).all()
    for channel in range(4):
        rescaled = [normalise(case, Normalisation.RESCALE)[channel][case[channel] != 0] for case in cases]
        expected = np.mean([[by_definition(voxels, share) for share in range(101)] for voxels in rescaled], axis=0)
        assert np.allclose(reference[channel], expected, atol=1e-5)
