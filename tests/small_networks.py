"""Networks, weights folders and cases that are small enough for a test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brats_infer.files.geometry import Geometry
from brats_infer.image.crop import ONE_MM, Cropped, Restore
from brats_infer.labelling.label_map import Found
from brats_infer.network.devices import CPU
from brats_infer.network.ensemble import Ensemble, Inputs
from brats_infer.network.loading import ensemble_of, torch_engine
from brats_infer.settings import Mode, Settings
from brats_infer.tasks import TASKS
from brats_infer.train.data.dataset import TrainingCase
from model.checkpoint import save_weights, write_manifest
from model.config import Member, UNetConfig
from model.unet import UNet

SMALL = UNetConfig(channels=(3, 5, 6))
WINDOW = (8, 8, 8)


def random_network(config: UNetConfig = SMALL, seed: int = 0) -> UNet:
    """A network of which every parameter matters: norms are no identities, and no two channels are alike."""
    generator = torch.Generator().manual_seed(seed)
    network = UNet(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = max(1, parameter[0].numel())
            parameter.copy_(1 + 0.3 * noise if "norm" in name and name.endswith("weight") else noise * fan_in**-0.5)
    return network


def sure_network(seed: int = 0) -> UNet:
    """A random network whose probabilities are nearly all 0 or 1, alike for all regions: a run has no doubt to tell."""
    network = random_network(seed=seed)
    with torch.no_grad():
        for head in network.heads.parameters():
            head.copy_(1000 * head[:1].expand_as(head))
    return network


def member_of(file: str = "small.safetensors", sha256: str = "", config: UNetConfig = SMALL) -> Member:
    return Member(
        file=file,
        sha256=sha256,
        task="gli",
        fold=0,
        config=config,
        normalisation="zscore+rescale",
        window=WINDOW,
        trained_on="nothing",
        licence="Apache-2.0",
        scores={"dice": 0.5},
    )


def write_weights(folder: Path, networks: Sequence[UNet], **changes: object) -> list[Member]:
    """A weights folder with a member for each network; `changes` are made to every entry of the manifest."""
    members = []
    for i, network in enumerate(networks):
        member = member_of(f"small-{i}.safetensors", config=network.config)
        sha256 = save_weights(folder / member.file, network)
        members.append(replace(member, **{"sha256": sha256, **changes}))  # type: ignore[arg-type]
    write_manifest(folder, members)
    return members


def cropped_of(images: NDArray[np.float32]) -> Cropped:
    """Images (4, X, Y, Z) as if the brain filled them."""
    x, y, z = images.shape[1:]
    shape, box = (x, y, z), (slice(0, x), slice(0, y), slice(0, z))
    orientation = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    geometry = Geometry.of_affine(shape, np.diag([-1.0, -1.0, 1.0, 1.0]))
    restore = Restore(geometry, orientation, shape, ONE_MM, shape, box)
    counts = tuple(int(np.count_nonzero(image)) for image in images)
    return Cropped(tuple(images), (images != 0).any(axis=0), restore, counts)


@dataclass(frozen=True)
class Told:
    """An engine that answers what it is told to."""

    config: UNetConfig
    answer: Callable[[Tensor], Tensor]

    def __call__(self, batch: Tensor) -> Tensor:
        return self.answer(batch).repeat(1, 3, 1, 1, 1)


def found_by(
    members: Sequence[tuple[Member, UNet]],
    images: NDArray[np.float32],
    mode: Mode,
    flips: bool = False,
    device: torch.device = CPU,
    references: Mapping[str, NDArray[np.float32]] = MappingProxyType({}),
) -> Found:
    """What an ensemble finds whose members compute in torch, whatever else is installed."""
    ensemble = ensemble_of(TASKS["gli"], members, device, references, torch_engine)
    return ensemble.predict(ensemble.prepare(cropped_of(images)), Settings(mode=mode, flips=flips), complete=True)


def predicted(members: Sequence[tuple[Member, UNet]], *given: Any, **options: Any) -> NDArray[np.float32]:
    """Probabilities (R, X, Y, Z), as of `found_by`."""
    return found_by(members, *given, **options).probabilities


def probabilities_of(ensemble: Ensemble, inputs: Inputs, settings: Settings | None = None) -> Tensor:
    """(R, X, Y, Z), all of them."""
    return torch.from_numpy(ensemble.predict(inputs, settings or Settings(), complete=True).probabilities)


def brain_images(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """(4, X, Y, Z) raw intensities with a border of background and a few negative ones."""
    images = rng.normal(100, 40, (4, *shape)).astype(np.float32)
    images[:, :2] = 0
    return images


def training_case(case_id: str, rng: np.random.Generator, shape: tuple[int, int, int] = (20, 18, 22)) -> TrainingCase:
    """An ellipsoid of a brain with three nested balls, each brighter in one modality."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    brain = (grid**2).sum(axis=0) < 0.95
    centre = rng.uniform(-0.25, 0.25, 3)
    distance = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0))
    regions = np.stack([brain & (distance < radius) for radius in (0.6, 0.4, 0.25)])
    image = 0.4 + 0.05 * rng.standard_normal((4, *shape))
    for channel, region in zip((3, 2, 1), regions, strict=True):
        image[channel] += 0.4 * region
    image = np.concatenate((np.clip(image, 0.01, 1) * brain, brain[None])).astype(np.float16)
    return TrainingCase.of_arrays(case_id, image, regions)
