"""Patches for training: their place, their rotation and scale, their contrast.

Each patch has a random generator of its own. So a resumed run and several processes draw the same patches.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from brats_infer.network.gpu.memory import pinned
from brats_infer.phantom.fields import blur
from brats_infer.tasks import MODALITIES, T1C, T2F
from brats_infer.train.choices import Augment
from brats_infer.train.data.dataset import Split, TrainingCase
from brats_infer.train.data.transplant import transplant
from brats_infer.train.run_config import TrainConfig

FOREGROUND_SHARE = 0.4  # of the patches are centred on a tumor voxel, the others on a brain voxel
BENT_SHARE = 0.5  # of the patches are rotated and scaled
MAX_ROTATION = np.pi / 6
ZOOM = (0.75, 1.35)
CONTRAST_SHARE = 0.3  # probability of each change of contrast, a modality at a time
NOISE_SHARE = 0.15


def kept_on(split: Split, device: torch.device) -> Split:
    """The split with its training cases in GPU memory, if they need no more than half of the free memory."""
    if device.type == "cpu":
        return split
    volumes = [volume for case in (*split.training, *split.phantoms) for volume in (case.image, case.regions)]
    free, _ = torch.cuda.mem_get_info(device)
    if sum(volume.nbytes for volume in volumes) > free / 2:
        return split
    return replace(split, training=_moved_cases(split.training, device), phantoms=_moved_cases(split.phantoms, device))


def _moved_cases(cases: Sequence[TrainingCase], device: torch.device) -> tuple[TrainingCase, ...]:
    return tuple(replace(case, image=case.image.to(device), regions=case.regions.to(device)) for case in cases)


def draw_batch(
    split: Split, config: TrainConfig, rngs: Sequence[np.random.Generator], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(B, 4 or 5, X, Y, Z) images and (B, R, X, Y, Z) targets, float32, augmented; one patch for each generator."""
    drawn = [_draw(split, config, rng, device) for rng in rngs]
    images = torch.stack([image for image, _ in drawn])
    return images if config.network.foreground else images[:, :-1], torch.stack([target for _, target in drawn])


def _draw(split: Split, config: TrainConfig, rng: np.random.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """(5, X, Y, Z) and (R, X, Y, Z): one patch of any case."""
    options = config.options
    case = _draw_case(split, options.phantom_share, rng, device)
    image, target = draw_patch(case, config.patch, rng, device, options.augment)
    # a probability of 0 draws nothing from the generator
    if options.transplant and (donors := [donor for donor in split.training if len(donor.centres[0])]):
        donor = donors[int(rng.integers(len(donors)))]
        if rng.random() < options.transplant:
            graft = draw_patch(donor, config.patch, rng, device, options.augment, foreground=1.0)
            image, target = transplant(image, target, *graft, rng)
    if options.drop_contrasts:
        image = drop_contrasts(image, options.drop_contrasts, rng)
    return image, target


def _draw_case(split: Split, phantom_share: float, rng: np.random.Generator, device: torch.device) -> TrainingCase:
    synthetic = split.synthetic and (not split.training or rng.random() < phantom_share)
    if synthetic and split.fresh:
        return split.fresh(int(rng.integers(2**31)), device)
    cases = split.phantoms if synthetic else split.training
    return cases[int(rng.integers(len(cases)))]


def draw_patch(
    case: TrainingCase,
    patch: tuple[int, int, int],
    rng: np.random.Generator,
    device: torch.device,
    augment: Augment = Augment.ALL,
    foreground: float = FOREGROUND_SHARE,
) -> tuple[Tensor, Tensor]:
    """(5, X, Y, Z) and (R, X, Y, Z): one patch of a case, augmented on the device.

    `foreground` is the probability that a tumor voxel is the patch's centre.
    """
    centre = draw_centre(case, rng, foreground)
    matrix = np.eye(3) if augment == Augment.NONE else np.diag(rng.choice((-1.0, 1.0), size=3))  # flips
    if augment in (Augment.SHAPE, Augment.ALL) and rng.random() < BENT_SHARE:
        matrix = matrix @ random_rotation(rng) * rng.uniform(*ZOOM)
        image, target = bend_patch(case, centre, matrix, patch, device)
    else:
        image, target = cut_patch(case, centre, patch, device)
        flipped = [axis + 1 for axis in range(3) if matrix[axis, axis] < 0]
        image, target = image.flip(flipped), target.flip(flipped)
    if augment in (Augment.CONTRAST, Augment.ALL):
        mask = image[-1:]
        image = torch.cat((change_contrast(image[:-1], rng).mul_(mask > 0), mask))
    return image, target


def drop_contrasts(image: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """(5, X, Y, Z) with contrasts set to 0, each with that probability on its own; T1c and FLAIR never both.

    If chance drops both of them, one of the two stays, either as often. The brain mask stays.
    """
    dropped = rng.random(len(MODALITIES)) < probability
    needed = [MODALITIES.index(T1C), MODALITIES.index(T2F)]
    if dropped[needed].all():
        dropped[rng.choice(needed)] = False
    image = image.clone()
    for channel in np.flatnonzero(dropped):
        image[int(channel)] = 0
    return image


def change_contrast(image: Tensor, rng: np.random.Generator) -> Tensor:
    """(C, X, Y, Z), each modality changed alone: gamma, contrast, brightness, bias field, blur, low resolution, noise.

    Strengths are relative to the mean and standard deviation of the brain's voxels, the voxels other than 0. So they
    suit every normalisation. The background changes too: mask it afterwards. No number is copied from the device,
    because the host would wait for it.
    """
    changed = []
    for channel in image:
        brain = channel.count_nonzero().clamp_(min=1)
        mean = channel.sum() / brain  # the background adds nothing to the sums
        variance = channel.square().sum() / brain - mean.square()
        spread = torch.where(variance > 0, variance, 1.0).sqrt_()
        changed.append(_change_one((channel - mean).div_(spread), rng).mul_(spread).add_(mean))
    return torch.stack(changed)


def _change_one(x: Tensor, rng: np.random.Generator) -> Tensor:
    """(X, Y, Z) with mean 0 and standard deviation 1; the input may be overwritten."""
    chance = rng.random(7)
    if chance[0] < CONTRAST_SHARE:
        x = _gamma(x, float(np.exp(rng.uniform(-0.5, 0.5))), inverted=rng.random() < 0.3)
    if chance[1] < CONTRAST_SHARE:
        x = x.mul_(rng.uniform(0.65, 1.5))
    if chance[2] < CONTRAST_SHARE:
        x = x.add_(rng.uniform(-0.5, 0.5))
    if chance[3] < CONTRAST_SHARE:
        knots = _moved(torch.from_numpy(rng.uniform(-0.5, 0.5, (1, 1, 3, 3, 3)).astype(np.float32)), x.device)
        x = x.add_(functional.interpolate(knots, size=x.shape, mode="trilinear", align_corners=True)[0, 0])
    if chance[4] < NOISE_SHARE:
        x = at_low_resolution(x, rng.uniform(1.2, 2.5))
    if chance[5] < NOISE_SHARE:
        x = blur(x[None], rng.uniform(0.4, 1.0))[0]
    if chance[6] < NOISE_SHARE:
        generator = torch.Generator(x.device).manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        x = x.add_(noise, alpha=rng.uniform(0, 0.3))
    return x


def at_low_resolution(x: Tensor, factor: float) -> Tensor:
    """(X, Y, Z) brought to voxels `factor` times as large and back; what it shows stays where it is.

    By sizes both ways: with a factor and the size it came from, it would be stretched by the rest of the division.
    """
    sides = [max(1, round(n / factor)) for n in x.shape]
    small = functional.interpolate(x[None, None], size=sides, mode="trilinear")
    return functional.interpolate(small, size=x.shape, mode="trilinear")[0, 0]


def _gamma(x: Tensor, gamma: float, inverted: bool) -> Tensor:
    """x ** gamma over 0..1, which stands for two standard deviations below the mean to four above; slope 1 beyond."""
    sign, low = (-1, -4) if inverted else (1, -2)
    unit = x.mul_(sign / 6).sub_(low / 6)
    inside = unit.clamp(0, 1)
    return unit.sub_(inside).add_(inside.pow_(gamma)).add_(low / 6).mul_(6 * sign)


def draw_centre(
    case: TrainingCase, rng: np.random.Generator, foreground: float = FOREGROUND_SHARE
) -> NDArray[np.float64]:
    """A voxel (3,): of a random region, or of the brain."""
    *regions, brain = case.centres
    voxels = brain
    if rng.random() < foreground:
        present = [region for region in regions if len(region)]
        voxels = present[int(rng.integers(len(present)))] if present else brain
    return np.asarray(voxels[rng.integers(len(voxels))], np.float64)


def cut_patch(
    case: TrainingCase, centre: NDArray[np.float64], patch: tuple[int, int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(5, X, Y, Z) and (R, X, Y, Z): a box around the centre. Outside the crop is background."""
    starts = [int(c) - side // 2 for c, side in zip(centre, patch, strict=True)]
    image, target, lows = _cut(case, starts, patch, device)
    before = [low - start for low, start in zip(lows, starts, strict=True)]
    after = [side - b - n for side, b, n in zip(patch, before, image.shape[1:], strict=True)]
    pad = [p for pair in reversed(list(zip(before, after, strict=True))) for p in pair]
    return functional.pad(image, pad), functional.pad(target, pad)


def _cut(
    case: TrainingCase, starts: Sequence[int], sides: Sequence[int], device: torch.device
) -> tuple[Tensor, Tensor, list[int]]:
    """(5, x, y, z) and (R, x, y, z) float32: the part of a box that lies in the crop, and where that part starts."""
    lows = [max(0, start) for start in starts]
    box = [
        slice(low, min(size, start + side))
        for low, start, side, size in zip(lows, starts, sides, case.image.shape[1:], strict=True)
    ]
    image, target = (_moved(volumes[:, *box], device).float() for volumes in (case.image, case.regions))
    return image, target, lows


def _moved(volumes: Tensor, device: torch.device) -> Tensor:
    """The volumes on the device, through pinned memory and without waiting; unchanged if they lie there."""
    if volumes.device == device:
        return volumes
    return pinned(volumes.contiguous()).to(device, non_blocking=True)


def bend_patch(
    case: TrainingCase,
    centre: NDArray[np.float64],
    matrix: NDArray[np.float64],
    patch: tuple[int, int, int],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """As `cut_patch`, but the voxel at offset o from the centre is sampled at offset `matrix` (3, 3) @ o.

    Images are interpolated linearly, masks by nearest neighbour.
    """
    # cut before the conversion to float32; grid_sample fills the outside with background
    reach = [int(np.ceil(np.abs(row) @ np.array(patch) / 2)) + 2 for row in matrix]
    starts = [int(c) - r for c, r in zip(centre, reach, strict=True)]
    image, target, lows = _cut(case, starts, [2 * r for r in reach], device)
    sizes = np.array(image.shape[1:], np.float64)
    # unit cube of the patch -> unit cube of the cut
    theta = matrix * np.array(patch)[np.newaxis] / sizes[:, np.newaxis]
    shift = 2 * (centre.astype(int) - lows) / sizes - 1
    affine = np.concatenate((theta[::-1, ::-1], shift[::-1, np.newaxis]), axis=1)  # grid_sample wants z, y, x
    matrices = _moved(torch.from_numpy(affine)[None].float(), device)
    grid = functional.affine_grid(matrices, [1, 1, *patch], align_corners=False)
    linear, brain, regions = (
        functional.grid_sample(volumes[None], grid, mode=mode, align_corners=False)[0]
        for volumes, mode in ((image[:-1], "bilinear"), (image[-1:], "nearest"), (target, "nearest"))
    )
    return torch.cat((linear.mul_(brain > 0), brain)), regions  # interpolation blurs across the edge of the mask


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3): a rotation of up to 30 degrees about each axis in turn."""
    angles = rng.uniform(-MAX_ROTATION, MAX_ROTATION, size=3)
    return np.asarray(Rotation.from_euler("XYZ", angles).as_matrix(), np.float64)
