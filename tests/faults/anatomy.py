"""A head whose label map is known, and a network that finds it: what comes out of a run can be called right or wrong.

The network's kernels have only a centre and its lower level is silent, so each voxel is judged by its own intensities;
the logits are about 8 in size on either side, so that no CPU's arithmetic turns one over.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from brats_infer.image.normalise import Normalisation, network_input
from model.checkpoint import read_manifest, write_manifest
from model.config import UNetConfig
from model.source import Source
from model.unet import UNet
from tests.small_networks import write_weights

SHAPE = (32, 36, 30)
CENTRE = (19, 15, 13)
RADII = {"t2f": 9.0, "t2w": 7.5, "t1c": 6.0}
"""mm, of the balls WT, TC and ET; each is bright in one modality."""
LABELS = {"t2f": 2, "t2w": 1, "t1c": 3}
MODALITIES = ("t1n", "t1c", "t2w", "t2f")
LOGIT = 8.0
WINDOW = (48, 48, 48)  # larger than the head: in a part of it, the norms would be others


def _distances(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    grid = np.meshgrid(*(np.arange(n) - c for n, c in zip(shape, CENTRE, strict=True)), indexing="ij")
    return np.sqrt(sum(axis**2 for axis in grid))


def truth() -> NDArray[np.uint8]:
    """(X, Y, Z) labels."""
    labels = np.zeros(SHAPE, np.uint8)
    for modality, radius in RADII.items():
        labels[_distances(SHAPE) < radius] = LABELS[modality]
    return labels


def image(modality: str | int) -> NDArray[np.int16]:
    """(X, Y, Z) int16 of a modality, by name or number: an ellipsoid of a brain around 300, a ball around 900."""
    name = modality if isinstance(modality, str) else MODALITIES[modality]
    rng = np.random.default_rng(MODALITIES.index(name))
    at = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    brain = (at**2).sum(axis=0) < 0.95
    values = rng.integers(280, 320, SHAPE)
    if name in RADII:
        values[_distances(SHAPE) < RADII[name]] += 600
    return np.where(brain, values, 0).astype(np.int16)


OWN = UNetConfig(channels=(5, 5), deep_supervision=False)
IMPORTED = UNetConfig(channels=(4, 4), foreground=False, deep_supervision=False, logits=True)
SOURCE = Source("nnU-Net v2", "Dataset001_Faults", "0", "", "", "innermost", nnunet_windows=True)


@cache
def network(config: UNetConfig = OWN) -> UNet:
    """Finds the balls: WT where t2f is bright, TC where t2w is, ET where t1c is."""
    net = UNet(config).eval()
    normalisation = Normalisation.RESCALE if config == OWN else Normalisation.ZSCORE_BRAIN
    width = config.channels[0]
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.fill_(float("norm" in name and name.endswith("weight")))
        for conv in (net.down["1"].conv1, net.down["1"].conv2, net.up["1"].block.conv2):
            conv.weight[:, :, 1, 1, 1] = torch.eye(width)
        net.up["1"].block.conv1.weight[:, width:, 1, 1, 1] = torch.eye(width)  # of the skip
        images = np.stack([image(name) for name in MODALITIES]).astype(np.float32)
        brain = (images != 0).any(axis=0)
        x = torch.from_numpy(network_input(images, brain, normalisation, None, config.foreground))[None]
        features = net.features(x)[1][0]  # (C, X, Y, Z)
        for region, (modality, radius) in enumerate(RADII.items()):
            channel = MODALITIES.index(modality)
            ball = torch.from_numpy(_distances(SHAPE) < radius)
            inside, outside = features[channel][ball].min(), features[channel][~ball].max()
            slope = 2 * LOGIT / (inside - outside)
            net.heads["1"].weight[region, channel] = slope
            net.heads["1"].bias[region] = -slope * (inside + outside) / 2
    return net


def write_network(folder: Path) -> Path:
    """A weights folder with that network for the task gli, of ours and imported from nnU-Net."""
    folder.mkdir(parents=True)
    (own, imported) = write_weights(folder, [network(), network(IMPORTED)], window=WINDOW)
    write_manifest(folder, [own, replace(imported, normalisation=str(Normalisation.ZSCORE_BRAIN), source=SOURCE)])
    return folder


def write_imported_network(folder: Path) -> Path:
    """The same without the member of ours."""
    _, imported = read_manifest(write_network(folder))
    write_manifest(folder, [imported])
    return folder


def overlap(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    """The smallest Dice of the labels."""
    pairs = [(found == label, expected == label) for label in LABELS.values()]
    return min(2 * float((a & b).sum()) / float(a.sum() + b.sum()) for a, b in pairs)
